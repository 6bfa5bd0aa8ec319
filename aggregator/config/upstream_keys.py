"""Every key of an upstream: its kind, default and one line about it.

What concerns several of them at once is in `upstream_rules`.

No ``from __future__ import annotations`` here: pydantic would evaluate each annotation again, at every start.
"""

from pydantic import ConfigDict, Field

from .fields import (
    AuthorizationParameter,
    BearerToken,
    Boolean,
    CallbackPath,
    Command,
    Directory,
    Duration,
    HeaderName,
    HeaderValue,
    Issuer,
    Keys,
    Milliseconds,
    Name,
    Pattern,
    Port,
    Prefix,
    Scope,
    SecretText,
    Text,
    UpstreamAuthType,
    UpstreamUrl,
    Variable,
    VariableName,
    default,
    optional,
)
from .upstream_rules import NEEDED


class UpstreamAuthKeys(Keys):
    """How an upstream is paid its due."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {"if": {"properties": {"type": {"const": kind}}, "required": ["type"]}, "then": {"required": [*needed]}}
                for kind, needed in NEEDED.items()
            ]
        }
    )
    type: UpstreamAuthType | None = optional(
        "`user`: each person's own account, authorised on first use. `none`: the upstream asks for nothing. "
        "`bearer`, `header`, `command`, `oauth`: one account for everybody who may log in. "
        "Absent: `user`, or `oauth` in local mode.",
        "bearer",
    )
    token: BearerToken | None = optional(
        "With `bearer`: the token, sent as `Authorization: Bearer <token>`.", {"file": "/run/secrets/wiki"}
    )
    header: HeaderName | None = optional("With `header`: the name of the header.", "X-Api-Key")
    value: HeaderValue | None = optional("With `header`: what the header says.", "${WIKI_KEY}")
    command: Command | None = optional(
        "With `command`: a program that prints a bearer token.", ["gcloud", "auth", "print-access-token"]
    )
    ttl: Duration = default("5m", "With `command`: how long a token is used that does not say itself when it ends.")
    client_name: Text = default("mcp-aggregator", "With `oauth`: our name on the authorization server's pages.")
    client_id_command: Command | None = optional(
        "With `oauth`: a program that prints what `clientId` would be.", ["pass", "show", "wiki/id"]
    )
    client_secret_command: Command | None = optional(
        "With `oauth`: a program that prints what `clientSecret` would be.", ["pass", "show", "wiki/secret"]
    )
    callback_port: Port = default(
        0, "With `oauth`: the port of the redirect URI `http://127.0.0.1:<port>/callback`; 0 takes any free one."
    )
    open_browser: Boolean = default(True, "With `oauth`: `false` only prints the link.")
    allow_issuer_mismatch: Boolean = default(
        False, "With `oauth`: accept an authorization server that calls itself by another name than its URL."
    )


class ToolKeys(Keys):
    """Which tools of an upstream are shown. Patterns on the upstream's own names: `*` any text, `?` any character."""

    include: list[Pattern] = default(["*"], "Tools to show.", ["read_*", "search"])
    exclude: list[Pattern] = default([], "Tools to hide; wins over `include`.", ["delete_*"])


class UpstreamKeys(Keys):
    """One MCP server behind the aggregator."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["url"]}, {"required": ["command"]}]})

    name: Name = Field(description="Unique name; namespace of its tools (`gmail__send_email`).", examples=["gmail"])
    url: UpstreamUrl | None = optional(
        "Streamable HTTP endpoint of the MCP server. This or `command`.", "https://gmail-mcp.example.com/mcp"
    )
    command: Command | None = optional(
        "Program and arguments that are the MCP server, started without a shell. This or `url`.",
        ["npx", "-y", "@modelcontextprotocol/server-everything"],
    )
    env: dict[VariableName, Variable] = default(
        {}, "Environment of `command`, beside the little that every program needs.", {"GITHUB_TOKEN": "${GITHUB_TOKEN}"}
    )
    cwd: Directory | None = optional("Working directory of `command`. Absent: ours.", "/srv/files")
    start_on_use: Boolean = default(False, "`true` starts `command` when somebody asks for it, not with us.")
    idle_stop: Duration | None = optional("Stop `command` when it was unused for so long. Absent: never.", "15m")
    display_name: Text | None = optional("Name for people. Absent: the title that the server gives itself.", "Gmail")
    description: Text | None = optional("What it is for, for people and models.", "The team's mail")
    enabled: Boolean = default(True, "`false` leaves it out without forgetting its settings.")
    prefix: Prefix | None = optional(
        "What stands before `__` in the names of its tools and prompts. Absent: the name. "
        '`""` for one upstream: no prefix at all.',
        "mail",
    )
    auth: UpstreamAuthKeys = Field(default_factory=UpstreamAuthKeys, description="How calls to it are authorised.")
    headers: dict[HeaderName, HeaderValue] = default({}, "Headers sent with every request.", {"X-Team": "a"})
    client_id: Text | None = optional(
        "Client ID registered at the upstream's authorization server. Absent: we register ourselves.", "1234.5678"
    )
    client_secret: SecretText | None = optional(
        "Client secret for `clientId`. Omit it for a public client.", "${SLACK_CLIENT_SECRET}"
    )
    scopes: list[Scope] | None = optional(
        "Scopes to ask for. Absent: those that the upstream says it needs. `[]`: none.", ["mail.read"]
    )
    authorization_server: Issuer | None = optional(
        "The issuer URL of the upstream's authorization server, where the upstream does not say so itself.",
        "https://login.example.com",
    )
    authorization_params: dict[AuthorizationParameter, Text] = default(
        {},
        "Further parameters of the authorization request. They stand in the browser's address bar.",
        {"access_type": "offline", "prompt": "consent"},
    )
    send_resource: Boolean = default(
        True, "`false` leaves out the `resource` parameter, for authorization servers that refuse it."
    )
    callback_path: CallbackPath | None = optional(
        "Path of the redirect URI, below that of `issuerUrl`, for a client registered beforehand. "
        "Absent: `/upstream-auth/callback/<name>`.",
        "/upstream-auth/callback",
    )
    allow_private_network: Boolean = default(
        False, "`true` lets the addresses that the upstream names for logging in be private ones."
    )
    instructions: Boolean = default(False, "`true` passes on the server's instructions to models.")
    tools: ToolKeys = Field(default_factory=ToolKeys, description="Which of its tools are shown.")
    discovery_timeout: Milliseconds | None = optional("As the top-level key, for this upstream.", 5000)
    tool_timeout: Milliseconds | None = optional("As the top-level key, for this upstream.", 60000)
