"""The provider's own description (OpenID Connect Discovery 1.0), parsed once into a value that cannot be wrong.

This file knows nothing of requests, keys or people.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ...errors import IdentityProviderUnavailable
from .documents import quotable_url, read_object


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What we need to know of a provider. `issuer` is as the provider writes it; ID tokens must repeat it exactly."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    # Discovery 3: "If omitted, the default is client_secret_basic"
    token_auth_methods: tuple[str, ...] = ("client_secret_basic",)
    iss_in_response: bool = False  # RFC 9207 3: authorization_response_iss_parameter_supported
    userinfo_endpoint: str | None = None  # Discovery 3: RECOMMENDED


def discovery_url(issuer: str) -> str:
    """Discovery 4: of an issuer with a path "any terminating / MUST be removed before appending"."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def parse_discovery(document: bytes, configured_issuer: str, *, allow_http: bool = False) -> ProviderMetadata:
    """The provider's metadata, if the document is the one of `configured_issuer`.

    Plain http is accepted when the configured issuer is http itself and either loopback or allowed by `allow_http`.

    Raises:
        IdentityProviderUnavailable: with the reason, in an operator's words.
    """
    try:
        fields = read_object(document)
    except ValueError as exc:
        raise _unusable(f"it is {exc}; does auth.issuer name an OpenID provider?") from None
    issuer = _text(fields, "issuer")
    if not _same_issuer(issuer, configured_issuer):
        # Discovery 4.3: "The issuer value returned MUST be identical to the Issuer URL that was used as the prefix"
        if "{" in issuer:
            # Whoever accepted such a pattern would accept the tokens of every tenant of the provider.
            raise _unusable(
                f"its issuer is the pattern '{quotable_url(issuer)}', which stands for many tenants; auth.issuer is "
                f"'{configured_issuer}' and must name your own tenant"
            )
        raise _unusable(
            f"it speaks for issuer '{quotable_url(issuer)}', but auth.issuer is '{configured_issuer}'; set auth.issuer "
            "to what the provider calls itself (one trailing slash may differ)"
        )
    http = urlsplit(configured_issuer).scheme == "http" and (allow_http or is_loopback(configured_issuer))
    check_endpoint("issuer", issuer, http=http)
    authorization, token, jwks = (check_endpoint(name, _text(fields, name), http=http) for name in _ENDPOINTS)
    userinfo = fields.get("userinfo_endpoint")
    if userinfo is not None:
        userinfo = check_endpoint("userinfo_endpoint", _text(fields, "userinfo_endpoint"), http=http)
    return ProviderMetadata(
        issuer,
        authorization,
        token,
        jwks,
        token_auth_methods=_texts(fields, "token_endpoint_auth_methods_supported") or ("client_secret_basic",),
        iss_in_response=_flag(fields, "authorization_response_iss_parameter_supported"),
        userinfo_endpoint=userinfo,
    )


_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


def check_endpoint(name: str, url: str, *, http: bool) -> str:
    """`url`, if it is an absolute URL without credentials and fragment, https unless `http` is allowed."""
    shown = quotable_url(url)
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no number
    except ValueError:
        raise _unusable(f"'{name}' is '{shown}', which is no URL") from None
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or not parts.hostname:
        raise _unusable(f"'{name}' is '{shown}', which is no absolute URL")
    if parts.scheme != "https" and not (http and parts.scheme == "http"):
        raise _unusable(f"'{name}' is '{shown}', which is not https; plain http is for loopback issuers only")
    if "@" in parts.netloc or "#" in url:
        raise _unusable(f"'{name}' is '{shown}', which carries credentials or a fragment")
    return url


def is_loopback(url: str) -> bool:
    """Whether the host of `url` is this machine by name or by address."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same_issuer(one: str, other: str) -> bool:
    # Auth0 ends its issuer with a slash that people leave out of their configuration.
    return one == other or one == other + "/" or other == one + "/"


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise _unusable(f"'{name}' is missing" if value is None else f"'{name}' must be text")
    return value


def _texts(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _unusable(f"'{name}' must be a list of texts")
    return tuple(value)


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise _unusable(f"'{name}' must be true or false")
    return value


def _unusable(reason: str) -> IdentityProviderUnavailable:
    return IdentityProviderUnavailable(f"its discovery document cannot be used: {reason}")
