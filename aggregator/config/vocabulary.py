"""Every key of the file but those of an upstream (`upstream_keys`): its kind, default and one line about it.

Nowhere else are keys listed: validation, the JSON Schema and the documentation's test all come from these
classes. What concerns several keys at once is in `rules`. This file must not know where the text came from.

No ``from __future__ import annotations`` here: pydantic would evaluate each annotation again, at every start.
"""

from typing import Annotated, Any

from pydantic import Field, model_validator

from . import certificates
from .fields import (
    Allow,
    AllowedHost,
    AuthoritiesFile,
    BindHost,
    Boolean,
    CertificateFile,
    ClientId,
    ClientSecret,
    CodeLifetime,
    DeploymentSecrets,
    Duration,
    Issuer,
    KeyFile,
    Keys,
    ListenToken,
    Milliseconds,
    Origin,
    OwnUrl,
    Port,
    Proxy,
    RedirectUri,
    Scope,
    SecretText,
    Size,
    SocketPath,
    Storage,
    Text,
    Transport,
    UriScheme,
    default,
    number,
    optional,
)
from .upstream_keys import UpstreamKeys


class AuthKeys(Keys):
    """How people log in: your organisation's OpenID Connect provider."""

    issuer: Issuer = Field(
        description="Your login provider's URL. It must support OpenID Connect discovery.",
        examples=["https://keycloak.example.com/realms/myrealm"],
    )
    client_id: Text = default("mcp-aggregator", "Client ID registered with your login provider.")
    client_secret: SecretText | None = optional("Client secret. Omit it for a public client.", "${OIDC_CLIENT_SECRET}")
    scopes: list[Scope] = default(["openid"], "Scopes to request at login; `openid` must be among them.")
    user_claim: Text = default("sub", "Claim of the ID token that identifies the person.", "preferred_username")
    allow: Allow = default(
        {},
        "Who may log in: for every claim named, the ID token must hold that value, or one of the list. "
        "Empty: everyone whom the provider lets in.",
        {"hd": "example.com", "groups": ["eng", "ops"]},
    )
    allow_http_issuer: Boolean = default(
        False, "Accept an `http` issuer on another machine. Logins then travel in clear text."
    )
    relogin_after: Duration = default(
        "7d", "How long after a person's last login at the provider their grants may still be refreshed."
    )


class TokenKeys(Keys):
    """How long what we issue lives."""

    access: Duration = default("15m", "Lifetime of an access token.")
    refresh: Duration = default("30d", "Lifetime of a client's grant, however often it is refreshed.")
    refresh_idle: Duration = default("7d", "A grant that is not refreshed for so long ends.")
    code: CodeLifetime = default("60s", "Lifetime of an authorization code.")


class ClientKeys(Keys):
    """An MCP client that does not register itself."""

    client_id: ClientId = Field(description="The client id that it sends.", examples=["claude-desktop"])
    name: Text | None = optional("Its name on the consent page. Absent: the client id.", "Claude Desktop")
    redirect_uris: list[RedirectUri] = Field(
        min_length=1,
        description="Where its answers may go, exactly; the port of a loopback one is free. A URI of an app's own "
        "scheme is allowed by standing here.",
        examples=[["http://127.0.0.1/callback"], ["cursor://anysphere.cursor-mcp/oauth/callback"]],
    )
    client_secret: ClientSecret | None = optional(
        "Its secret, 16 characters or more, for a client that can keep one. Absent: a public client.",
        {"file": "/run/secrets/client"},
    )


class TlsKeys(Keys):
    """What the listener serves https with. Both files are read again when they change."""

    cert_file: CertificateFile = Field(
        description="PEM file with the certificate and its chain, the server's own first.",
        examples=["/run/tls/tls.crt"],
    )
    key_file: KeyFile = Field(
        description="PEM file with the private key, not encrypted.", examples=["/run/tls/tls.key"]
    )

    @model_validator(mode="after")
    def _pair(self) -> "TlsKeys":
        certificates.check_pair(self.cert_file, self.key_file)
        return self


class OutboundKeys(Keys):
    """How we reach the upstreams and the identity provider."""

    ca_file: AuthoritiesFile | None = optional(
        "PEM file of authorities to trust besides the system's.", "/etc/ssl/company-ca.pem"
    )
    proxy: Proxy | None = optional(
        "HTTP proxy on the way there, with user and password if it asks for them.", "http://proxy.example.com:3128"
    )


class ListenKeys(Keys):
    """Local mode's front door."""

    transport: Transport = default(
        "http", "`http`, or `stdio`: one client over standard input and output, which starts us."
    )
    token: ListenToken | None = optional(
        "Bearer token that clients must show, 16 characters or more.", {"file": "/run/secrets/mcp"}
    )
    allow_unauthenticated: Boolean = default(
        False, "`true` lets everybody in who can reach a `host` that is not this machine's own."
    )


class LimitKeys(Keys):
    """What one request, one name and one person may take."""

    body: Size = default("4MiB", "Largest request body of the MCP endpoint.")
    name_length: Annotated[int, number(48, 128, "length")] = default(
        64, "Longest tool name; longer ones are shortened with a hash."
    )
    calls_per_person: Annotated[int, number(1, 100_000, "number of calls")] = default(
        64, "Calls of one person that may be under way at once."
    )


class File(Keys):
    """The whole file."""

    schema_: Any = Field(default=None, alias="$schema", description="Where editors find this schema.")
    auth: AuthKeys | None = Field(default=None, description="How people log in. Absent: local mode, for one person.")
    upstreams: list[UpstreamKeys] = Field(min_length=1, description="The MCP servers, in the order of their tools.")
    issuer_url: OwnUrl | None = optional(
        "Public URL of this server. Required behind a reverse proxy. Absent: `http://localhost:<port>`. A browser that"
        " comes by another of `localhost`, `127.0.0.1` and `[::1]` is led to the one that stands here.",
        "https://mcp.example.com",
    )
    host: BindHost | None = optional("Address to listen on. Absent: `0.0.0.0`, in local mode `127.0.0.1`.", "127.0.0.1")
    port: Port = default(3000, "Port to listen on; 0 takes any free one.")
    socket: SocketPath | None = optional(
        "Local mode: path of a Unix socket to listen on, instead of `host` and `port`.",
        "/run/user/1000/mcp-aggregator.sock",
    )
    tls: TlsKeys | None = Field(default=None, description="Certificate and key to serve https with. Absent: http.")
    storage: Storage | None = optional(
        "Where upstream tokens, grants and consents are kept: `memory`, or the path of a SQLite file. "
        "Absent: `memory`, in local mode `$XDG_STATE_HOME/mcp-aggregator/local.sqlite`.",
        "/data/aggregator.sqlite",
    )
    secret: DeploymentSecrets | None = optional(
        "The key under which everything is sealed; the same in all instances. `mcp-aggregator secret new` makes one. "
        "A list: the first seals, all open. Absent: random at every start.",
        "${MCP_AGGREGATOR_SECRET}",
    )
    tokens: TokenKeys = Field(default_factory=TokenKeys, description="How long what we issue lives.")
    allowed_origins: list[Origin] = default(
        [], "Web origins, besides our own, whose scripts may use the MCP endpoint.", ["https://app.example.com"]
    )
    allowed_hosts: list[AllowedHost] = default(
        [], "Values of the Host header to accept besides that of `issuerUrl`.", ["aggregator.internal:3000"]
    )
    discovery_timeout: Milliseconds = default(5000, "Time to reach an upstream and list what it has, in milliseconds.")
    tool_timeout: Milliseconds = default(60000, "Time for one tool call at an upstream, in milliseconds.")
    input_timeout: Duration = default("10m", "Time that a question to a person, a form or a login, may wait.")
    drain: Duration = default("25s", "Time that calls under way get to finish when the server stops.")
    outbound: OutboundKeys = Field(
        default_factory=OutboundKeys, description="How we reach the upstreams and the identity provider."
    )
    limits: LimitKeys = Field(default_factory=LimitKeys, description="What one request, name and person may take.")
    clients: list[ClientKeys] = default([], "MCP clients that do not register themselves.")
    client_schemes: list[UriScheme] = default(
        [],
        "Schemes of apps, beside `https` and loopback `http`, that clients not set up in `clients` may be sent to.",
        ["cursor", "windsurf"],
    )
    client_documents: Boolean = default(
        True, "Whether MCP clients may be described by the document at their client id's URL, which we then fetch."
    )

    listen: ListenKeys = Field(default_factory=ListenKeys, description="Local mode's front door.")
