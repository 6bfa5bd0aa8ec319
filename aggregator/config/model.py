"""The configuration as values that cannot be wrong. Durations are seconds here, whatever the file's unit."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

class Secret:
    """A text that must not be printed."""
    def __init__(self, text: str) -> None: self._text = text
    def reveal(self) -> str: return self._text
    def __repr__(self) -> str: return "Secret(***)"

@dataclass(frozen=True, slots=True)
class Auth:
    issuer: str
    client_id: str = "mcp-aggregator"
    client_secret: Secret | None = None
    scopes: tuple[str, ...] = ("openid",)
    user_claim: str = "sub"
    allow: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allow_http_issuer: bool = False

@dataclass(frozen=True, slots=True)
class ToolFilter:
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

@dataclass(frozen=True, slots=True)
class Upstream:
    name: str
    url: str
    prefix: str
    display_name: str | None = None
    description: str | None = None
    enabled: bool = True
    auth_type: str = "user"            # "user" | "none" for now
    tools: ToolFilter = field(default_factory=ToolFilter)
    discovery_timeout: float = 5.0
    tool_timeout: float = 60.0

@dataclass(frozen=True, slots=True)
class Tokens:
    access: float = 15 * 60
    refresh: float = 30 * 86400
    refresh_idle: float = 7 * 86400
    code: float = 60

@dataclass(frozen=True, slots=True)
class Limits:
    body: int = 4 * 2**20
    name_length: int = 64
    calls_per_person: int = 64

@dataclass(frozen=True, slots=True)
class Config:
    auth: Auth
    upstreams: tuple[Upstream, ...]
    issuer_url: str                    # no trailing slash
    storage: str = "memory"
    host: str = "0.0.0.0"
    port: int = 3000
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    secret: Secret | None = None
    discovery_timeout: float = 5.0
    tool_timeout: float = 60.0
    drain: float = 25.0
    tokens: Tokens = field(default_factory=Tokens)
    limits: Limits = field(default_factory=Limits)
