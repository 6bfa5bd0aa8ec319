"""Every key of the file: its kind, default and one line about it. The only place that lists them.

Validation, the JSON Schema and the documentation's test all come from these
classes. Keys whose feature does not exist yet stand here too, so that they are
refused by name and never ignored. What concerns several keys at once is in
`rules`. This file must not know where the text came from.

No ``from __future__ import annotations`` here: pydantic would evaluate each annotation again, at every start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema

from . import certificates, clients, kinds, scalars, urls
from .model import Secret
from .secrets import read_deployment_secret, read_secret

_VARIABLE = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"
_FROM_VARIABLE = {"type": "string", "pattern": f"^{_VARIABLE}$"}


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of value for pydantic: a parser that raises ValueError, and what the JSON Schema says of it."""

    parse: Callable[..., Any]
    schema: dict[str, Any]
    reads_files: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        if self.reads_files:
            return core_schema.with_info_plain_validator_function(
                lambda value, info: self.parse(value, (info.context or {}).get("cwd", Path()))
            )
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return self.schema


def _text(parse: Callable[[Any], Any], pattern: str | None = None) -> Kind:
    """A kind written as text. A pattern lets texts with variables through: an editor cannot expand them."""
    if pattern is None:
        return Kind(parse, {"type": "string"})
    return Kind(parse, {"type": "string", "anyOf": [{"pattern": f"^{pattern}$"}, {"pattern": r"\$\{"}]})


def _number(minimum: int, maximum: int, what: str) -> Kind:
    schema = {"anyOf": [{"type": "integer", "minimum": minimum, "maximum": maximum}, _FROM_VARIABLE]}
    return Kind(scalars.whole(minimum, maximum, what), schema)


def _later(refusal: str, *harmless: Any) -> Kind:
    """A key that comes later: `refusal` for every value but those that change nothing."""
    return Kind(kinds.refuse_unless(refusal, harmless), {"enum": list(harmless)} if harmless else {"not": {}})


def _read_deployment_secrets(value: Any, cwd: Path) -> tuple[Secret, ...]:
    """One secret, or a list of them."""
    if not isinstance(value, list):
        return (read_deployment_secret(value, cwd),)
    if not value:
        raise scalars.Wrong("is empty; give at least one")
    secrets = []
    for number, each in enumerate(value):
        try:
            secrets.append(read_deployment_secret(each, cwd))
        except scalars.Wrong as exc:
            raise scalars.Wrong(str(exc), exc.suggestion, item=number) from exc
    return tuple(secrets)


_SECRET_FILE = {
    "type": "object",
    "properties": {"file": {"type": "string", "description": "A file that holds the secret."}},
    "required": ["file"],
    "additionalProperties": False,
}
_SECRET_SCHEMA = {"anyOf": [{"type": "string", "minLength": 1}, _SECRET_FILE]}
_SECRETS_SCHEMA = {"anyOf": [*_SECRET_SCHEMA["anyOf"], {"type": "array", "items": _SECRET_SCHEMA, "minItems": 1}]}
_CLAIM_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}

Text = Annotated[str, _text(scalars.parse_text)]
Boolean = Annotated[bool, Kind(scalars.parse_boolean, {"anyOf": [{"type": "boolean"}, _FROM_VARIABLE]})]
Duration = Annotated[float, _text(scalars.parse_duration, "[0-9]{1,9}(ms|s|m|h|d)")]
CodeLifetime = Annotated[float, _text(kinds.parse_code_lifetime, "[0-9]{1,9}(ms|s|m|h|d)")]
Size = Annotated[int, _text(scalars.parse_size, "[0-9]{1,12}(B|KiB|MiB|GiB)")]
Milliseconds = Annotated[
    float, Kind(scalars.parse_milliseconds, _number(1, scalars.MAX_MILLISECONDS, "number of milliseconds").schema)
]
SecretText = Annotated[Secret, Kind(read_secret, _SECRET_SCHEMA, reads_files=True)]
DeploymentSecrets = Annotated[tuple[Secret, ...], Kind(_read_deployment_secrets, _SECRETS_SCHEMA, reads_files=True)]
Name = Annotated[str, _text(kinds.parse_name, kinds.NAME_PATTERN)]
Prefix = Annotated[str, _text(kinds.parse_prefix, "[A-Za-z0-9_.-]{0,32}")]
Scope = Annotated[str, _text(kinds.parse_scope)]
Pattern = Annotated[str, _text(kinds.parse_pattern)]
Storage = Annotated[str, _text(kinds.parse_storage)]
Allow = Annotated[
    dict[str, tuple[str, ...]],
    Kind(kinds.parse_allow, {"type": "object", "additionalProperties": _CLAIM_SCHEMA}),
]
UpstreamAuthType = Annotated[str, Kind(kinds.parse_upstream_auth_type, {"enum": ["user", "none"]})]
Issuer = Annotated[str, _text(urls.parse_issuer, "https?://.+")]
UpstreamUrl = Annotated[str, _text(urls.parse_upstream_url, "https?://.+")]
OwnUrl = Annotated[str, _text(urls.parse_own_url, "https?://.+")]
Origin = Annotated[str, _text(urls.parse_origin)]
ClientId = Annotated[str, _text(clients.parse_client_id)]
RedirectUri = Annotated[str, _text(clients.parse_redirect_uri, "[a-z][a-z0-9+.-]*:.+")]
UriScheme = Annotated[str, _text(clients.parse_scheme, "[a-z][a-z0-9+.-]*")]
ClientSecret = Annotated[Secret, Kind(clients.read_client_secret, _SECRET_SCHEMA, reads_files=True)]
CertificateFile = Annotated[str, Kind(certificates.read_certificate_path, {"type": "string"}, reads_files=True)]
KeyFile = Annotated[str, Kind(certificates.read_key_path, {"type": "string"}, reads_files=True)]
AuthoritiesFile = Annotated[str, Kind(certificates.read_authorities_path, {"type": "string"}, reads_files=True)]
AllowedHost = Annotated[str, _text(urls.parse_allowed_host)]
BindHost = Annotated[str, _text(urls.parse_bind_host)]


def _default(value: Any, description: str, *examples: Any) -> Any:
    """A key with a default, written as the file would write it and so parsed like it."""
    return Field(default=value, description=description, validate_default=True, examples=list(examples) or None)


def _optional(description: str, *examples: Any) -> Any:
    """A key that may be absent and then is None."""
    return Field(default=None, description=description, examples=list(examples) or None)


def _absent(description: str) -> Any:
    """A key that must be absent, for now."""
    return Field(default=None, description=f"Not available yet. {description}")


class Keys(BaseModel):
    """A mapping of the file: camelCase keys, no others."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        alias_generator=to_camel,
        frozen=True,
        defer_build=True,  # only the whole file is ever validated; building each part alone doubles the start-up
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )


class AuthKeys(Keys):
    """How people log in: your organisation's OpenID Connect provider."""

    issuer: Issuer = Field(
        description="Your login provider's URL. It must support OpenID Connect discovery.",
        examples=["https://keycloak.example.com/realms/myrealm"],
    )
    client_id: Text = _default("mcp-aggregator", "Client ID registered with your login provider.")
    client_secret: SecretText | None = _optional("Client secret. Omit it for a public client.", "${OIDC_CLIENT_SECRET}")
    scopes: list[Scope] = _default(["openid"], "Scopes to request at login; `openid` must be among them.")
    user_claim: Text = _default("sub", "Claim of the ID token that identifies the person.", "preferred_username")
    allow: Allow = _default(
        {},
        "Who may log in: for every claim named, the ID token must hold that value, or one of the list. "
        "Empty: everyone whom the provider lets in.",
        {"hd": "example.com", "groups": ["eng", "ops"]},
    )
    allow_http_issuer: Boolean = _default(
        False, "Accept an `http` issuer on another machine. Logins then travel in clear text."
    )
    relogin_after: Duration = _default(
        "7d", "How long after a person's last login at the provider their grants may still be refreshed."
    )


class TokenKeys(Keys):
    """How long what we issue lives."""

    access: Duration = _default("15m", "Lifetime of an access token.")
    refresh: Duration = _default("30d", "Lifetime of a client's grant, however often it is refreshed.")
    refresh_idle: Duration = _default("7d", "A grant that is not refreshed for so long ends.")
    code: CodeLifetime = _default("60s", "Lifetime of an authorization code.")


class UpstreamAuthKeys(Keys):
    """How an upstream is paid its due."""

    type: UpstreamAuthType = _default(
        "user", "`user`: each person's own account, authorised on first use. `none`: the upstream asks for nothing."
    )


class ToolKeys(Keys):
    """Which tools of an upstream are shown. Patterns on the upstream's own names: `*` any text, `?` any character."""

    include: list[Pattern] = _default(["*"], "Tools to show.", ["read_*", "search"])
    exclude: list[Pattern] = _default([], "Tools to hide; wins over `include`.", ["delete_*"])


class UpstreamKeys(Keys):
    """One MCP server behind the aggregator."""

    name: Name = Field(description="Unique name; namespace of its tools (`gmail__send_email`).", examples=["gmail"])
    url: UpstreamUrl = Field(
        description="Streamable HTTP endpoint of the MCP server.", examples=["https://gmail-mcp.example.com/mcp"]
    )
    display_name: Text | None = _optional("Name for people. Absent: the title that the server gives itself.", "Gmail")
    description: Text | None = _optional("What it is for, for people and models.", "The team's mail")
    enabled: Boolean = _default(True, "`false` leaves it out without forgetting its settings.")
    prefix: Prefix | None = _optional(
        'What stands before `__` in its tools\' names. Absent: the name. `""` for one upstream: no prefix at all.',
        "mail",
    )
    auth: UpstreamAuthKeys = Field(default_factory=UpstreamAuthKeys, description="How calls to it are authorised.")
    tools: ToolKeys = Field(default_factory=ToolKeys, description="Which of its tools are shown.")
    discovery_timeout: Milliseconds | None = _optional("As the top-level key, for this upstream.", 5000)
    tool_timeout: Milliseconds | None = _optional("As the top-level key, for this upstream.", 60000)

    command: Annotated[Any, _later("starting commands is not available yet; give 'url'")] = _absent(
        "Program and arguments that are the server, instead of `url`."
    )
    env: Annotated[Any, _later("starting commands is not available yet; remove it", {})] = _absent(
        "Environment of `command`."
    )
    cwd: Annotated[Any, _later("starting commands is not available yet; remove it")] = _absent(
        "Working directory of `command`."
    )
    headers: Annotated[Any, _later("sending fixed headers is not available yet; remove it", {})] = _absent(
        "Headers sent with every request."
    )
    client_id: Annotated[Any, _later("a client registered beforehand is not available yet; remove it")] = _absent(
        "Client ID registered at the upstream's authorization server."
    )
    client_secret: Annotated[Any, _later("a client registered beforehand is not available yet; remove it")] = _absent(
        "Client secret for `clientId`."
    )
    scopes: Annotated[Any, _later("choosing scopes is not available yet; remove it", [])] = _absent(
        "Scopes to ask the upstream's authorization server for."
    )
    authorization_server: Annotated[
        Any, _later("choosing the authorization server is not available yet; remove it")
    ] = _absent("The upstream's authorization server, where it does not say so itself.")
    authorization_params: Annotated[
        Any, _later("further authorization parameters are not available yet; remove it", {})
    ] = _absent("Further parameters of the authorization request.")
    send_resource: Annotated[
        Any, _later("leaving out the resource parameter is not available yet; remove it", True)
    ] = _absent("`false` leaves out the `resource` parameter, for servers that refuse it.")
    callback_path: Annotated[Any, _later("choosing the callback path is not available yet; remove it")] = _absent(
        "Path of the redirect URI, for clients registered beforehand."
    )
    allow_private_network: Annotated[Any, _later("this exception is not available yet; remove it", False)] = _absent(
        "`true` lets addresses that the upstream names be private ones."
    )
    instructions: Annotated[Any, _later("passing on instructions is not available yet; remove it", False)] = _absent(
        "`true` passes on the server's instructions to models."
    )


class ClientKeys(Keys):
    """An MCP client that does not register itself."""

    client_id: ClientId = Field(description="The client id that it sends.", examples=["claude-desktop"])
    name: Text | None = _optional("Its name on the consent page. Absent: the client id.", "Claude Desktop")
    redirect_uris: list[RedirectUri] = Field(
        min_length=1,
        description="Where its answers may go, exactly; the port of a loopback one is free. A URI of an app's own "
        "scheme is allowed by standing here.",
        examples=[["http://127.0.0.1/callback"], ["cursor://anysphere.cursor-mcp/oauth/callback"]],
    )
    client_secret: ClientSecret | None = _optional(
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

    ca_file: AuthoritiesFile | None = _optional(
        "PEM file of authorities to trust besides the system's.", "/etc/ssl/company-ca.pem"
    )
    proxy: Annotated[Any, _later("a proxy of our own is not available yet; remove it")] = _absent(
        "HTTP proxy on the way there."
    )


class LimitKeys(Keys):
    """What one request, one name and one person may take."""

    body: Size = _default("4MiB", "Largest request body of the MCP endpoint.")
    name_length: Annotated[int, _number(48, 128, "length")] = _default(
        64, "Longest tool name; longer ones are shortened with a hash."
    )
    calls_per_person: Annotated[int, _number(1, 100_000, "number of calls")] = _default(
        64, "Calls of one person that may be under way at once."
    )


class File(Keys):
    """The whole file."""

    schema_: Any = Field(default=None, alias="$schema", description="Where editors find this schema.")
    auth: AuthKeys = Field(description="How people log in.")
    upstreams: list[UpstreamKeys] = Field(min_length=1, description="The MCP servers, in the order of their tools.")
    issuer_url: OwnUrl | None = _optional(
        "Public URL of this server. Required behind a reverse proxy. Absent: `http://localhost:<port>`.",
        "https://mcp.example.com",
    )
    host: BindHost = _default("0.0.0.0", "Address to listen on.", "127.0.0.1")  # noqa: S104  the seed's default
    port: Annotated[int, _number(0, 65535, "port")] = _default(3000, "Port to listen on; 0 takes any free one.")
    tls: TlsKeys | None = Field(default=None, description="Certificate and key to serve https with. Absent: http.")
    storage: Storage = _default(
        "memory",
        "Where upstream tokens, grants and consents are kept: `memory`, or the path of a SQLite file.",
        "/data/aggregator.sqlite",
    )
    secret: DeploymentSecrets | None = _optional(
        "The key under which everything is sealed; the same in all instances. `mcp-aggregator secret new` makes one. "
        "A list: the first seals, all open. Absent: random at every start.",
        "${MCP_AGGREGATOR_SECRET}",
    )
    tokens: TokenKeys = Field(default_factory=TokenKeys, description="How long what we issue lives.")
    allowed_origins: list[Origin] = _default(
        [], "Web origins, besides our own, whose scripts may use the MCP endpoint.", ["https://app.example.com"]
    )
    allowed_hosts: list[AllowedHost] = _default(
        [], "Values of the Host header to accept besides that of `issuerUrl`.", ["aggregator.internal:3000"]
    )
    discovery_timeout: Milliseconds = _default(5000, "Time to reach an upstream and list what it has, in milliseconds.")
    tool_timeout: Milliseconds = _default(60000, "Time for one tool call at an upstream, in milliseconds.")
    drain: Duration = _default("25s", "Time that calls under way get to finish when the server stops.")
    outbound: OutboundKeys = Field(
        default_factory=OutboundKeys, description="How we reach the upstreams and the identity provider."
    )
    limits: LimitKeys = Field(default_factory=LimitKeys, description="What one request, name and person may take.")
    clients: list[ClientKeys] = _default([], "MCP clients that do not register themselves.")
    client_schemes: list[UriScheme] = _default(
        [],
        "Schemes of apps, beside `https` and loopback `http`, that clients not set up in `clients` may be sent to.",
        ["cursor", "windsurf"],
    )

    input_timeout: Annotated[Any, _later("waiting for a person's input is not available yet; remove it")] = _absent(
        "Time that a question to a person may wait."
    )
    listen: Annotated[Any, _later("local mode is not available yet; remove it")] = _absent("Local mode's front door.")
    socket: Annotated[Any, _later("listening on a Unix socket is not available yet; give 'host' and 'port'")] = _absent(
        "Unix socket to listen on."
    )
