"""Schema versions, one line a service: `auth/`, `processing/`, `notify/`."""
