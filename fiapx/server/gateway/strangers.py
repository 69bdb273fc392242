"""Sessions of which the cache that all services share knows nothing."""

from __future__ import annotations


class Stranger(Exception):
    """Nothing is known of this session here."""


class Strangers:
    """The Sessions port of who has nobody to ask: behind a cache it lets through what the cache knows alone."""

    def active(self, _session_id: str, _token: str) -> bool:
        """Raises Stranger."""
        raise Stranger
