"""Being known to an authorization server: by configuration, by our metadata document, or by registering (RFC 7591).

Which of the three, what is sent and what the answer means. This file must not
know stores, nor how a document of ours is served.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlsplit

from ...errors import ConnectFailed
from ..learned_url import LOOPBACK_NAMES
from ..oidc.documents import quotable, quotable_url, read_object
from .answers import error_of, retry_after
from .challenge import split_scope
from .server import ServerMetadata

CLIENT_NAME = "mcp-aggregator"
GRANT_TYPES = ("authorization_code", "refresh_token")
# In order of preference. A client without a secret has none to lose and none that ends; PKCE protects the code, and the
# registration's redirect URI is ours alone. After that the method that needs no escaping on which two could disagree.
AUTH_METHODS = ("none", "client_secret_post", "client_secret_basic")

# RFC 6749 A.1, A.2: VSCHAR. The longest client ids in use are URLs and sealed values of about 1,000 characters.
_CREDENTIAL = re.compile(r"[ -~]{1,2048}")


@dataclass(frozen=True, slots=True)
class Client:
    """Who we are at one authorization server. `secret_until` is when the secret ends, None for never."""

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    auth_method: str = "none"
    secret_until: float | None = None


@dataclass(frozen=True, slots=True)
class RegistrationNeeded:
    """We have to register at `endpoint`, unless we have done so before."""

    endpoint: str


def choose_client(
    server: ServerMetadata, *, client_id: str | None, client_secret: str | None, document_url: str | None
) -> Client | RegistrationNeeded:
    """MCP, "Client Registration Approaches": what the operator registered, else our metadata document, else dynamic
    registration. `document_url` is None where nobody outside could fetch the document.

    Raises:
        ConnectFailed: if none of them is possible.
    """
    if client_id is not None:
        method = "none" if client_secret is None else secret_method(server.auth_methods)
        return Client(client_id, client_secret, method)
    if server.takes_client_documents and document_url is not None:
        return Client(document_url)
    if server.registration_endpoint is not None:
        return RegistrationNeeded(server.registration_endpoint)
    raise ConnectFailed(
        f"{quotable_url(server.issuer)} does not let clients register themselves; the operator registers the "
        "aggregator there and sets the upstream's 'clientId'"
    )


def secret_method(supported: Sequence[str]) -> str:
    """How a client with a secret proves itself.

    Raises:
        ConnectFailed: if the server takes secrets in no way that we know.
    """
    for method in AUTH_METHODS[1:]:
        if method in supported:
            return method
    if "none" in supported or not supported:
        return "client_secret_basic"  # RFC 6749 2.3.1: servers that issue passwords MUST support it
    raise ConnectFailed(_unknown_methods(supported))


def client_metadata(
    server: ServerMetadata, *, redirect_uri: str, issuer_url: str, scope: str | None, name: str = CLIENT_NAME
) -> dict[str, Any]:
    """What is posted to the registration endpoint (RFC 7591 2). `name` is what the server's pages call us.

    Raises:
        ConnectFailed: if the server authenticates clients in no way that we know.
    """
    method = next((method for method in AUTH_METHODS if method in server.auth_methods), None)
    if method is None:
        raise ConnectFailed(_unknown_methods(server.auth_methods))
    metadata: dict[str, Any] = {
        "client_name": name,
        "redirect_uris": [redirect_uri],
        "grant_types": list(GRANT_TYPES),
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        "application_type": application_type(issuer_url),
    }
    # Some servers allow a client what it registered for and nothing else.
    return metadata | ({"scope": scope} if scope else {})


def application_type(issuer_url: str) -> str:
    """OpenID Connect Registration 2: web clients "MUST NOT use localhost"; who lives there is a native application."""
    host = urlsplit(issuer_url).hostname or ""
    return "native" if (f"[{host}]" if ":" in host else host) in LOOPBACK_NAMES else "web"


def process_registration_response(
    server: ServerMetadata, status: int, headers: Mapping[str, str], body: bytes, *, method: str, now: float
) -> Client:
    """The client that we are from now on (RFC 7591 3.2.1). `method` is the one that was asked for.

    Raises:
        ConnectFailed: if there is none.
    """
    issuer = quotable_url(server.issuer)
    if status not in (200, 201):
        if server.is_assumed and status in (404, 405):
            raise ConnectFailed(
                "it names no authorization server, and at its own address there is none; if it does not work without "
                "an account, the operator sets its 'authorizationServer'"
            )
        raise _refused(issuer, status, headers, body, now)
    try:
        fields = read_object(body)
    except ValueError as exc:
        raise ConnectFailed(f"{issuer} answered to our registration with what is {exc}", temporary=True) from None
    client_id, secret = fields.get("client_id"), fields.get("client_secret")
    if not isinstance(client_id, str) or not _CREDENTIAL.fullmatch(client_id):
        raise ConnectFailed(f"{issuer} registered us without a client_id")
    if secret is not None and (not isinstance(secret, str) or not _CREDENTIAL.fullmatch(secret)):
        raise ConnectFailed(f"{issuer} registered us with a client_secret that is none")
    # "The authorization server MAY reject or replace any of the client's requested metadata values"
    named = fields.get("token_endpoint_auth_method", method)
    if secret is None:
        return Client(client_id)
    if named not in AUTH_METHODS:
        raise ConnectFailed(_unknown_methods((str(named),)))
    if named == "none":
        if "none" in server.auth_methods:
            return Client(client_id)  # a secret that nobody asks for need not be kept
        named = secret_method(server.auth_methods)
    return Client(client_id, secret, named, _secret_until(fields.get("client_secret_expires_at")))


def fits(
    registered_uri: str,
    registered_scope: str | None,
    until: float | None,
    *,
    redirect_uri: str,
    scope: str | None,
    now: float,
) -> bool:
    """Whether an earlier registration serves for a login that comes back to `redirect_uri` and asks for `scope`."""
    covered = set(split_scope(scope or "")) <= set(split_scope(registered_scope or ""))
    return registered_uri == redirect_uri and covered and (until is None or until > now)


def client_authentication(client: Client) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and form of any POST to a token or revocation endpoint, as far as they say who we are."""
    headers = {"accept": "application/json"}
    if client.client_secret is None or client.auth_method == "none":
        return headers, {"client_id": client.client_id}
    if client.auth_method == "client_secret_post":
        return headers, {"client_id": client.client_id, "client_secret": client.client_secret}
    # RFC 6749 2.3.1: identifier and secret are each "encoded using the application/x-www-form-urlencoded" algorithm
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    return headers | {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}, {}


def client_document(url: str, redirect_uris: Sequence[str], issuer_url: str) -> dict[str, Any]:
    """Our own metadata document, as it stands at `url` (draft-ietf-oauth-client-id-metadata-document 4)."""
    return {
        "client_id": url,
        "client_name": CLIENT_NAME,
        "client_uri": issuer_url,
        "redirect_uris": list(redirect_uris),
        "grant_types": list(GRANT_TYPES),
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": application_type(issuer_url),
    }


def _refused(issuer: str, status: int, headers: Mapping[str, str], body: bytes, now: float) -> ConnectFailed:
    error = error_of(body)
    if status in (408, 429) or status >= 500:
        wait = retry_after(headers, now)
        when = f"; try again in {math.ceil(wait)} s" if wait else "; try again in a minute"
        return ConnectFailed(f"{issuer} cannot register us now (it answered {status}){when}", temporary=True)
    code = f"{status} {error.shown}" if error is not None else str(status)
    return ConnectFailed(
        f"{issuer} does not register us ({quotable(code)}); the operator registers the aggregator there and sets the "
        "upstream's 'clientId'"
    )


def _secret_until(value: Any) -> float | None:
    """RFC 7591 3.2.1: "0 if it will not expire"."""
    is_time = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12
    return float(value) if is_time else None


def _unknown_methods(methods: Sequence[str]) -> str:
    known = quotable(", ".join(methods))
    return f"its authorization server knows clients by {known} only; we know {', '.join(AUTH_METHODS)}"
