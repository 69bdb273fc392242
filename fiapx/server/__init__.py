"""The services behind the gateway. Each is an ASGI app with its own database."""
