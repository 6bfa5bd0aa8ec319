"""Dynamic client registration (RFC 7591) without a table: the client id is the sealed registration.

`parse_registration` reads a request, `seal_client` and `open_client` turn a
client into its id and back. A confidential client's secret is random; the id
holds only its SHA-256, so that rotating the key ring does not change it. This
file must not know where random texts and the time come from.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import Refusal, Unsealable
from ..sealing import KeyRing, Purpose
from .redirects import parse_redirect_uri
from .site import SCOPE
from .words import display_name, plain

MAX_REDIRECT_URIS = 10
MAX_CLIENT_ID = 4096  # characters; it travels in URLs and in Basic credentials
AUTH_METHODS = ("none", "client_secret_post", "client_secret_basic")
GRANT_TYPES = ("authorization_code", "refresh_token")
RESPONSE_TYPES = ("code",)

Source = Literal["registration", "document", "configuration"]


@dataclass(frozen=True, slots=True)
class Client:
    """A client that may ask. `id` names it in grants and tokens; a registered one's client id is the sealed whole.

    `secret_hash` is the SHA-256 of the client's secret in hexadecimal, None for a public client. `source` says whose
    word the rest is: its own, that of the document at the URL which is its id, or the operator's.
    """

    id: str
    name: str
    redirect_uris: tuple[str, ...]
    auth_method: str = "none"
    secret_hash: str | None = None
    issued_at: int = 0
    source: Source = "registration"

    def has_secret(self, presented: str) -> bool:
        """Is this the client's secret? Compared in constant time."""
        expected = self.secret_hash or ""
        return hmac.compare_digest(hash_secret(presented).encode(), expected.encode())


def parse_registration(
    body: bytes, *, registration_id: str, secret: str, now: float, schemes: Container[str] = ()
) -> Client:
    """The client that a registration request describes.

    `secret` becomes the client's secret if it asks for a method that needs one; `schemes` as in `parse_redirect_uri`.

    Raises:
        Refusal: 400 ``invalid_redirect_uri`` or ``invalid_client_metadata`` (RFC 7591 3.2.2).
    """
    metadata = _json_object(body)
    name = name_for_code_flow(metadata)
    # RFC 7591 2: "If unspecified or omitted, the default is client_secret_basic".
    method = metadata.get("token_endpoint_auth_method")
    if method in (None, ""):
        method = "client_secret_basic"
    if method not in AUTH_METHODS:
        raise invalid_metadata(
            f"token_endpoint_auth_method is '{plain(str(method))}'; use one of {', '.join(AUTH_METHODS)}"
        )
    return Client(
        id=registration_id,
        name=name,
        redirect_uris=_redirect_uris(metadata.get("redirect_uris"), schemes),
        auth_method=method,
        secret_hash=None if method == "none" else hash_secret(secret),
        issued_at=int(now),
    )


def seal_client(keys: KeyRing, client: Client, *, now: float) -> str:
    """The client id. It begins with a JWE header, so never with ``https://``, which would name a metadata document.

    Raises:
        Refusal: 400 ``invalid_client_metadata`` when the id would be too long to travel.
    """
    payload = {
        "id": client.id,
        "name": client.name,
        "uris": list(client.redirect_uris),
        "auth": client.auth_method,
        "secret": client.secret_hash,
        "at": client.issued_at,
    }
    client_id = keys.seal(Purpose.CLIENT, payload, now=now, lifetime=None)
    if len(client_id) > MAX_CLIENT_ID:
        raise invalid_metadata(
            f"the registration makes a client id of {len(client_id)} characters, {MAX_CLIENT_ID} are allowed; "
            "register fewer or shorter redirect URIs"
        )
    return client_id


def open_client(keys: KeyRing, client_id: str, *, now: float) -> Client:
    """The client behind a client id.

    Raises:
        Unsealable: for an id that we did not issue.
    """
    if len(client_id) > MAX_CLIENT_ID:
        raise Unsealable("not a client id of ours")
    payload = keys.open(Purpose.CLIENT, client_id, now=now)
    try:
        return Client(
            id=payload["id"],
            name=payload["name"],
            redirect_uris=tuple(payload["uris"]),
            auth_method=payload["auth"],
            secret_hash=payload["secret"],
            issued_at=payload["at"],
        )
    except (KeyError, TypeError) as exc:
        raise Unsealable("a client id of another version") from exc


def registration_response(client: Client, client_id: str, secret: str) -> dict[str, Any]:
    """RFC 7591 3.2.1: the client's identity and "all registered metadata about this client"."""
    response: dict[str, Any] = {
        "client_id": client_id,
        "client_id_issued_at": client.issued_at,
        "redirect_uris": list(client.redirect_uris),
        "token_endpoint_auth_method": client.auth_method,
        "grant_types": list(GRANT_TYPES),
        "response_types": list(RESPONSE_TYPES),
        "scope": SCOPE,
    }
    if client.name:
        response["client_name"] = client.name
    if client.secret_hash is not None:
        response["client_secret"] = secret
        response["client_secret_expires_at"] = 0  # "0 if it will not expire"
    return response


def name_for_code_flow(metadata: Mapping[str, Any]) -> str:
    """The name to show, from metadata of RFC 7591 that lets its client use the code flow.

    Raises:
        Refusal: 400 ``invalid_client_metadata``.
    """
    _require_one_of(metadata, "grant_types", "authorization_code")
    _require_one_of(metadata, "response_types", "code")
    name = metadata.get("client_name")
    if name is None:
        return ""
    if not isinstance(name, str):
        raise invalid_metadata("client_name is not a text")
    return display_name(name)


def hash_secret(secret: str) -> str:
    # The secret is 256 random bits: there is nothing to guess, so nothing to stretch.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid_metadata("the body is not JSON") from None
    if not isinstance(metadata, dict):
        raise invalid_metadata("the body is not a JSON object")
    return metadata


def _redirect_uris(value: Any, schemes: Container[str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(uri, str) for uri in value):
        raise Refusal(400, "invalid_redirect_uri", "redirect_uris must be a list of one or more URIs.")
    if len(value) > MAX_REDIRECT_URIS:
        raise Refusal(
            400,
            "invalid_redirect_uri",
            f"redirect_uris has {len(value)} entries; send at most {MAX_REDIRECT_URIS}.",
        )
    return tuple(parse_redirect_uri(uri, schemes).text for uri in value)


def _require_one_of(metadata: Mapping[str, Any], key: str, needed: str) -> None:
    """RFC 7591 2: absent means the default, which is what we offer; what is listed must include it."""
    value = metadata.get(key)
    if value is not None and (not isinstance(value, list) or needed not in value):
        raise invalid_metadata(f"{key} must be a list that includes {needed}")


def invalid_metadata(why: str) -> Refusal:
    return Refusal(400, "invalid_client_metadata", f"The client's metadata cannot be used: {why}.")
