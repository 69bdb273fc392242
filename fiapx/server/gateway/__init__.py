"""The single entry: mounts the services, and adds what all requests need alike."""
