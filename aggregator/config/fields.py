"""The kinds of value as pydantic and the JSON Schema see them, and the ways to declare a key.

Each joins a parser of a neighbouring file with what an editor is told of it. This file must not know which keys there
are.

No ``from __future__ import annotations`` here: pydantic would evaluate each annotation again, at every start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema

from . import accounts, certificates, clients, commands, door, headers, kinds, scalars, urls
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


def text(parse: Callable[[Any], Any], pattern: str | None = None) -> Kind:
    """A kind written as text. A pattern lets texts with variables through: an editor cannot expand them."""
    if pattern is None:
        return Kind(parse, {"type": "string"})
    return Kind(parse, {"type": "string", "anyOf": [{"pattern": f"^{pattern}$"}, {"pattern": r"\$\{"}]})


def number(minimum: int, maximum: int, what: str) -> Kind:
    schema = {"anyOf": [{"type": "integer", "minimum": minimum, "maximum": maximum}, _FROM_VARIABLE]}
    return Kind(scalars.whole(minimum, maximum, what), schema)


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

Text = Annotated[str, text(scalars.parse_text)]
Boolean = Annotated[bool, Kind(scalars.parse_boolean, {"anyOf": [{"type": "boolean"}, _FROM_VARIABLE]})]
Duration = Annotated[float, text(scalars.parse_duration, "[0-9]{1,9}(ms|s|m|h|d)")]
CodeLifetime = Annotated[float, text(kinds.parse_code_lifetime, "[0-9]{1,9}(ms|s|m|h|d)")]
Size = Annotated[int, text(scalars.parse_size, "[0-9]{1,12}(B|KiB|MiB|GiB)")]
Milliseconds = Annotated[
    float, Kind(scalars.parse_milliseconds, number(1, scalars.MAX_MILLISECONDS, "number of milliseconds").schema)
]
SecretText = Annotated[Secret, Kind(read_secret, _SECRET_SCHEMA, reads_files=True)]
DeploymentSecrets = Annotated[tuple[Secret, ...], Kind(_read_deployment_secrets, _SECRETS_SCHEMA, reads_files=True)]
Name = Annotated[str, text(kinds.parse_name, kinds.NAME_PATTERN)]
Prefix = Annotated[str, text(kinds.parse_prefix, "[A-Za-z0-9_.-]{0,32}")]
Scope = Annotated[str, text(kinds.parse_scope)]
Pattern = Annotated[str, text(kinds.parse_pattern)]
Storage = Annotated[str, text(kinds.parse_storage)]
Allow = Annotated[
    dict[str, tuple[str, ...]],
    Kind(kinds.parse_allow, {"type": "object", "additionalProperties": _CLAIM_SCHEMA}),
]
UpstreamAuthType = Annotated[str, Kind(kinds.one_of(kinds.AUTH_TYPES), {"enum": list(kinds.AUTH_TYPES)})]
Transport = Annotated[str, Kind(kinds.one_of(kinds.TRANSPORTS), {"enum": list(kinds.TRANSPORTS)})]
Command = Annotated[
    tuple[str, ...],
    Kind(commands.parse_command, {"type": "array", "items": {"type": "string"}, "minItems": 1}),
]
VariableName = Annotated[str, text(commands.parse_variable_name)]
Variable = Annotated[
    Secret, Kind(commands.read_variable, {"anyOf": [{"type": "string"}, _SECRET_FILE]}, reads_files=True)
]
Directory = Annotated[str, Kind(commands.read_directory, {"type": "string"}, reads_files=True)]
SocketPath = Annotated[str, Kind(door.read_socket_path, {"type": "string"}, reads_files=True)]
ListenToken = Annotated[Secret, Kind(door.read_listen_token, _SECRET_SCHEMA, reads_files=True)]
Port = Annotated[int, number(0, 65535, "port")]
HeaderName = Annotated[str, text(headers.parse_header_name)]
HeaderValue = Annotated[Secret, Kind(headers.read_header_value, _SECRET_SCHEMA, reads_files=True)]
BearerToken = Annotated[Secret, Kind(headers.read_bearer_token, _SECRET_SCHEMA, reads_files=True)]
AuthorizationParameter = Annotated[str, text(accounts.parse_authorization_parameter)]
CallbackPath = Annotated[str, text(accounts.parse_callback_path, "/.+")]
Proxy = Annotated[Secret, Kind(urls.read_proxy, _SECRET_SCHEMA, reads_files=True)]
Issuer = Annotated[str, text(urls.parse_issuer, "https?://.+")]
UpstreamUrl = Annotated[str, text(urls.parse_upstream_url, "https?://.+")]
OwnUrl = Annotated[str, text(urls.parse_own_url, "https?://.+")]
Origin = Annotated[str, text(urls.parse_origin)]
ClientId = Annotated[str, text(clients.parse_client_id)]
RedirectUri = Annotated[str, text(clients.parse_redirect_uri, "[a-z][a-z0-9+.-]*:.+")]
UriScheme = Annotated[str, text(clients.parse_scheme, "[a-z][a-z0-9+.-]*")]
ClientSecret = Annotated[Secret, Kind(clients.read_client_secret, _SECRET_SCHEMA, reads_files=True)]
CertificateFile = Annotated[str, Kind(certificates.read_certificate_path, {"type": "string"}, reads_files=True)]
KeyFile = Annotated[str, Kind(certificates.read_key_path, {"type": "string"}, reads_files=True)]
AuthoritiesFile = Annotated[str, Kind(certificates.read_authorities_path, {"type": "string"}, reads_files=True)]
AllowedHost = Annotated[str, text(urls.parse_allowed_host)]
BindHost = Annotated[str, text(urls.parse_bind_host)]


def default(value: Any, description: str, *examples: Any) -> Any:
    """A key with a default, written as the file would write it and so parsed like it."""
    return Field(default=value, description=description, validate_default=True, examples=list(examples) or None)


def optional(description: str, *examples: Any) -> Any:
    """A key that may be absent and then is None."""
    return Field(default=None, description=description, examples=list(examples) or None)


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
