"""Services that run elsewhere, reached as if they were mounted here."""

from fiapx.server.proxy.app import Proxy
from fiapx.server.proxy.upstream import Upstream

__all__ = ["Proxy", "Upstream"]
