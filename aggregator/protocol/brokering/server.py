"""Who an authorization server is: its metadata (RFC 8414, OpenID Discovery), where it stands and what it must say.

This file must not know which upstream leads there, nor requests to the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ...errors import ConnectFailed
from ..learned_url import NotPlainUrl
from ..oidc.documents import quotable_url, read_object
from .challenge import split_scope
from .reach import Reach

S256 = "S256"
_OAUTH, _OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
# RFC 8414 2: "If omitted, the default is "client_secret_basic""
_DEFAULT_AUTH_METHODS = ("client_secret_basic",)


class OtherIssuer(ConnectFailed):
    """The metadata in an issuer's place is that of another: whoever answers there now is not whom we knew."""


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """One authorization server. `issuer` is as it calls itself; all URLs were found to be within reach.

    One that may call itself anything has the `issuer` where it was found, and `answers_as` if it says otherwise.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    scopes: tuple[str, ...] = ()
    auth_methods: tuple[str, ...] = _DEFAULT_AUTH_METHODS
    iss_promised: bool = False
    takes_client_documents: bool = False
    answers_as: str | None = None
    is_assumed: bool = False  # nobody has said that there is one; see `default_server`


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Where the metadata of `issuer` may stand, in the order in which to look (MCP, "Authorization Server Metadata
    Discovery"): RFC 8414 with the path inserted, OpenID Connect with the path inserted, and appended."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    if not path:
        return origin + _OAUTH, origin + _OPENID
    return origin + _OAUTH + path, origin + _OPENID + path, origin + path + _OPENID


def default_server(origin: str) -> ServerMetadata:
    """MCP 2025-03-26, "Fallbacks for Servers without Metadata Discovery": the paths that such a server is to have."""
    return ServerMetadata(
        issuer=origin,
        authorization_endpoint=origin + "/authorize",
        token_endpoint=origin + "/token",
        registration_endpoint=origin + "/register",
        auth_methods=("none", "client_secret_post", "client_secret_basic"),
        is_assumed=True,
    )


def parse_server_metadata(
    body: bytes, issuer: str, reach: Reach, *, is_vouched_for: bool = False, by_any_name: bool = False
) -> ServerMetadata:
    """The metadata of `issuer`, if `body` is its.

    `is_vouched_for` says that the operator named this server. A server that does not speak of PKCE at all is then taken
    to have it: Entra ID has, and does not say so. S256 is asked for in any case. `by_any_name` says that the operator
    accepts whatever stands where the issuer is, whoever it says it is.

    Raises:
        ConnectFailed: if it cannot be used; the text says why.
    """
    try:
        fields = read_object(body)
    except ValueError as exc:
        raise ConnectFailed(f"the metadata of {quotable_url(issuer)} is {exc}") from None
    named = fields.get("issuer")
    # RFC 8414 3.3: "If these values are not identical, the data contained in the response MUST NOT be used."
    answers_as = None
    if by_any_name:
        answers_as = named if isinstance(named, str) and named != issuer else None
        named = issuer
    elif not isinstance(named, str) or not is_same_issuer(named, issuer):
        shown = quotable_url(named) if isinstance(named, str) else "nobody"
        raise OtherIssuer(f"the metadata of the issuer {quotable_url(issuer)} speaks for {shown}, so it is not used")
    methods = fields.get("code_challenge_methods_supported")
    # MCP, "Authorization Code Protection": if it is absent, "MCP clients MUST refuse to proceed"
    if S256 not in _texts(methods) and not (methods is None and is_vouched_for):
        raise ConnectFailed(
            f"{quotable_url(issuer)} does not say that it protects codes with PKCE (S256), so no login is sent there"
            + ("" if methods is not None else "; an operator who knows better names it as 'authorizationServer'")
        )
    auth_methods = _texts(fields.get("token_endpoint_auth_methods_supported")) or list(_DEFAULT_AUTH_METHODS)
    return ServerMetadata(
        issuer=named,
        authorization_endpoint=_needed(fields, "authorization_endpoint", issuer, reach),
        token_endpoint=_needed(fields, "token_endpoint", issuer, reach),
        registration_endpoint=_endpoint(fields, "registration_endpoint", reach),
        revocation_endpoint=_endpoint(fields, "revocation_endpoint", reach),
        userinfo_endpoint=_endpoint(fields, "userinfo_endpoint", reach),
        scopes=tuple(scope for text in _texts(fields.get("scopes_supported")) for scope in split_scope(text)),
        auth_methods=tuple(auth_methods),
        iss_promised=fields.get("authorization_response_iss_parameter_supported") is True,
        takes_client_documents=fields.get("client_id_metadata_document_supported") is True,
        answers_as=answers_as,
    )


def is_same_issuer(one: str, other: str) -> bool:
    """Equal but for one slash at the end of the text.

    Resource servers whose frameworks hold issuers as URLs write ``https://as.example/`` for ``https://as.example``
    (pydantic does). Whom an answer's ``iss`` must name is what the server itself writes, to the letter.
    """
    return one == other or one == other + "/" or other == one + "/"


def _needed(fields: dict[str, Any], name: str, issuer: str, reach: Reach) -> str:
    url = fields.get(name)
    if not isinstance(url, str):
        raise ConnectFailed(f"the metadata of {quotable_url(issuer)} has no {name}")
    try:
        return reach.destination(url).url.text
    except NotPlainUrl as exc:
        raise ConnectFailed(f"the {name} of {quotable_url(issuer)} {exc}") from None


def _endpoint(fields: dict[str, Any], name: str, reach: Reach) -> str | None:
    """One that we can do without: None if it may not be used."""
    url = fields.get(name)
    return url if isinstance(url, str) and reach.is_allowed(url) else None


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
