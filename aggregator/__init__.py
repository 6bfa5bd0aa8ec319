"""One MCP endpoint for all of a team's, or one developer's, MCP servers.

Reading order: `errors`; `config/` (what the operator said); `protocol/` (what
messages mean, pure); `store/` (what is remembered); `upstream/` (who is behind
us); `web/` (who is in front of us), `stdio/` (the same over pipes); `assembly/`
and `server` (what is opened, in which order); `cli/`. docs/architecture.md tells
the life of a request.

Embedding, under trio::

    async with open_aggregator(config) as aggregator:   # an ASGI application
        ...
    addresses = await nursery.start(serve, config)       # or with sockets of its own
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Config", "ConfigError", "load_config", "open_aggregator", "serve"]

if TYPE_CHECKING:
    from .config import load_config
    from .config.model import Config
    from .errors import ConfigError
    from .server import open_aggregator, serve

_HOMES = {
    "Config": "config.model",
    "ConfigError": "errors",
    "load_config": "config",
    "open_aggregator": "server",
    "serve": "server",
}


def __getattr__(name: str) -> Any:
    """Public names load on first use: `--help` must not pay for trio."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
