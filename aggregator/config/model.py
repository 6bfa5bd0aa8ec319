"""The configuration as values that cannot be wrong.

Durations are seconds and sizes are bytes here, whatever the file's unit. This
file owns the shape that every other room reads; it must not know files, keys or
texts: `load` makes these values and nobody else looks at the raw thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class Secret:
    """A text that must not be printed.

    `file` is where it was read, for whoever looks whether it has changed; `prefix` is what stands before the file's
    content in the text.
    """

    __slots__ = ("_text", "file", "prefix")

    def __init__(self, text: str, *, file: str | None = None, prefix: str = "") -> None:
        self._text = prefix + text
        self.file = file
        self.prefix = prefix

    def reveal(self) -> str:
        return self._text

    def after(self, prefix: str) -> Secret:
        """The same with `prefix` before it."""
        return Secret(self._text, file=self.file, prefix=prefix)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Auth:
    """How people log in. `issuer` is exactly as written; `allow` names, per claim, the values that may come in."""

    issuer: str
    client_id: str = "mcp-aggregator"
    client_secret: Secret | None = None
    scopes: tuple[str, ...] = ("openid",)
    user_claim: str = "sub"
    allow: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allow_http_issuer: bool = False
    relogin_after: float = 7 * 86400


@dataclass(frozen=True, slots=True)
class KnownClient:
    """An MCP client that does not register itself. Without a secret it is a public one."""

    client_id: str
    name: str
    redirect_uris: tuple[str, ...]
    client_secret: Secret | None = None


@dataclass(frozen=True, slots=True)
class ToolFilter:
    """Which of an upstream's tools are shown, by patterns on their own names; `exclude` wins."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """How people's own accounts at an upstream are connected, where the upstream does not say so itself.

    `callback_path` is absolute below the issuer URL's path; None is ``/upstream-auth/callback/<name>``.
    Without `client_id` we register ourselves.
    """

    client_id: str | None = None
    client_secret: Secret | None = None
    scopes: tuple[str, ...] | None = None
    authorization_server: str | None = None
    authorization_params: Mapping[str, str] = field(default_factory=dict)
    send_resource: bool = True
    callback_path: str | None = None
    allow_private_network: bool = False


@dataclass(frozen=True, slots=True)
class TokenCommand:
    """A program that prints a bearer token. One that does not say itself when it ends is used for `ttl`."""

    argv: tuple[str, ...]
    ttl: float = 300.0


@dataclass(frozen=True, slots=True)
class BrowserLogin:
    """How the one account that everybody shares is logged in to, in a browser on this machine.

    `callback_port` 0 is any free one. `scope_filter` names the scopes to ask for among those that are offered; it does
    nothing if it is empty or none of its scopes is offered. A client id and secret that a program prints stand beside
    those of the upstream's `Account`, of which there is one at most.
    """

    client_name: str = "mcp-aggregator"
    client_id_command: tuple[str, ...] = ()
    client_secret_command: tuple[str, ...] = ()
    scope_filter: tuple[str, ...] = ()
    callback_port: int = 0
    open_browser: bool = True
    allow_issuer_mismatch: bool = False


@dataclass(frozen=True, slots=True)
class AnyUpstream:
    """One MCP server behind us, reached in any way.

    `auth_type` is ``user`` (each person's own account, connected on first use), ``none``, ``bearer``, ``header``,
    ``command`` (what `token_command` prints) or ``oauth`` (one account for everybody, by `browser_login`). What
    ``bearer`` and ``header`` send stands in `headers`, with everything else that goes with every request; a ``bearer``
    without it has an empty token, which an mcpmux file may have.
    """

    name: str
    url: str | None
    prefix: str
    display_name: str | None = None
    description: str | None = None
    enabled: bool = True
    auth_type: str = "user"
    headers: tuple[tuple[str, Secret], ...] = ()
    account: Account = field(default_factory=Account)
    tools: ToolFilter = field(default_factory=ToolFilter)
    instructions: bool = False
    discovery_timeout: float = 5.0
    tool_timeout: float = 60.0
    token_command: TokenCommand | None = None
    browser_login: BrowserLogin | None = None


@dataclass(frozen=True, slots=True)
class Upstream(AnyUpstream):
    """One that is reached over HTTP."""

    url: str


@dataclass(frozen=True, slots=True)
class StdioUpstream(AnyUpstream):
    """One that we start, and speak to over its standard input and output; the same process for everybody.

    `env` is what it has beside the little that every program needs. With `start_on_use` it is started when somebody
    asks for it, else with us; unused for `idle_stop` it is stopped. Its `auth_type` is ``none``.
    """

    url: None = field(default=None, kw_only=True)
    auth_type: str = field(default="none", kw_only=True)
    command: tuple[str, ...] = field(kw_only=True)
    env: Mapping[str, Secret] = field(default_factory=dict)
    cwd: str | None = None
    start_on_use: bool = False
    idle_stop: float | None = None


@dataclass(frozen=True, slots=True)
class Tls:
    """What the listener serves https with: paths of PEM files, absolute."""

    cert_file: str
    key_file: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """How long what we issue lives."""

    access: float = 15 * 60
    refresh: float = 30 * 86400
    refresh_idle: float = 7 * 86400
    code: float = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, one name and one person may take."""

    body: int = 4 * 2**20
    name_length: int = 64
    calls_per_person: int = 64


@dataclass(frozen=True, slots=True)
class Listen:
    """The front door of local mode.

    `transport` is ``http``, at `socket` (the path of a Unix socket) if there is one, else at host and port; or
    ``stdio``, where one client talks to us over standard input and output. Whoever comes over http shows `token`, if
    there is one. `path` is that of the MCP endpoint.
    """

    transport: str = "http"
    path: str = "/mcp"
    socket: str | None = None
    token: Secret | None = None
    allow_unauthenticated: bool = False


@dataclass(frozen=True, slots=True)
class ConnectRetry:
    """How an upstream that is down is tried again: at growing intervals, none longer than `max_delay`.

    If not `enabled` it is tried when somebody asks for it, and not before. `attempt_timeout` is how long a command
    has to answer the handshake; `npx` and `uvx` fetch the server first. All in seconds.
    """

    enabled: bool = True
    max_delay: float = 15 * 60.0
    attempt_timeout: float = 120.0


@dataclass(frozen=True, slots=True)
class AnyConfig:
    """Everything the operator said, in whichever mode.

    Without `auth` this is local mode: one person, who comes in by `listen`. `clients`, `client_schemes`,
    `client_documents` and `tokens` mean nothing there; `listen`, `connect_retry` and `eager_auth` (log in to every
    ``oauth`` upstream at the start) mean nothing with `auth`.

    `issuer_url` has no trailing slash; with `port` 0 and no ``issuerUrl`` in the
    file it is ``http://localhost:0`` (https with `tls`), and whoever binds the port puts the real
    one in. `storage` is ``memory`` or a path. `secret` seals; `other_secrets` only
    open what they sealed. `ca_file` holds authorities to trust, besides the
    system's, at upstreams and the identity provider. `proxy` is ``http://[user:password@]host:port``, on the way
    to them. `input_timeout` is how long a question to a person may wait.
    """

    auth: Auth | None
    upstreams: tuple[AnyUpstream, ...]
    issuer_url: str
    storage: str = "memory"
    host: str = "0.0.0.0"  # noqa: S104  the seed's default: a container's port must be reachable
    port: int = 3000
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    secret: Secret | None = None
    other_secrets: tuple[Secret, ...] = ()
    discovery_timeout: float = 5.0
    tool_timeout: float = 60.0
    input_timeout: float = 600.0
    drain: float = 25.0
    tokens: Tokens = field(default_factory=Tokens)
    limits: Limits = field(default_factory=Limits)
    clients: tuple[KnownClient, ...] = ()
    client_schemes: tuple[str, ...] = ()
    client_documents: bool = True
    tls: Tls | None = None
    ca_file: str | None = None
    proxy: Secret | None = None
    listen: Listen = field(default_factory=Listen)
    connect_retry: ConnectRetry = field(default_factory=ConnectRetry)
    eager_auth: bool = False

    @property
    def has_pages(self) -> bool:
        """Whether a browser can open our pages: not where we listen at a path and nothing stands in front of it."""
        return self.listen.socket is None or self.issuer_url != "http://localhost"


@dataclass(frozen=True, slots=True)
class Config(AnyConfig):
    """What can be served: the configuration of a team, whose upstreams are of the two kinds that there are."""

    auth: Auth
    upstreams: tuple[Upstream | StdioUpstream, ...]


@dataclass(frozen=True, slots=True)
class LocalConfig(AnyConfig):
    """What can be served, too: the configuration of one person."""

    auth: None
    upstreams: tuple[Upstream | StdioUpstream, ...]


Servable = Config | LocalConfig
