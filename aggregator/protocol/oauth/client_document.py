"""Client ID metadata documents: a client id that is an https URL, and what stands there.

Sections are those of draft-ietf-oauth-client-id-metadata-document-02. What the
document says is the client's own claim; that it stands at the URL is all that is
proven. This file must not know how a document is fetched or kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container
from typing import Any

from ...errors import Refusal, Unfetchable, Unsealable
from ..learned_url import LearnedUrl, NotPlainUrl, parse_learned_url
from .redirects import parse_redirect_uri
from .registration import Client, invalid_metadata, name_for_code_flow

# 8.7 recommends 5 kB. Documents with a few public keys are larger, and 16 KiB are what we accept at registration, too.
MAX_DOCUMENT = 16 * 1024
MAX_REDIRECT_URIS = 50  # one document serves every platform and channel of its client: VS Code's has eight
SCHEME = "https://"

# 5.2: "SHOULD respect HTTP cache headers [...] but MAY define its own upper and/or lower bounds". The lower one is what
# keeps a team that connects on a Monday morning from asking once per person.
MIN_LIFETIME, LIFETIME, MAX_LIFETIME = 60.0, 3600.0, 86400.0  # seconds

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})\"?(?:$|[\s,])", re.ASCII | re.IGNORECASE)
_NEVER = re.compile(r"(?:^|[\s,])(?:no-store|no-cache)(?:$|[\s,=])", re.ASCII | re.IGNORECASE)


def parse_client_url(client_id: str) -> LearnedUrl:
    """A client id as a URL (section 3): https, a path, no dot segments, no user information, no fragment.

    Raises:
        Unsealable: for a client id that is none; the text may be shown.
    """
    try:
        url = parse_learned_url(client_id)
    except NotPlainUrl as exc:
        raise Unsealable(f"the URL {exc}") from None
    if not url.path:
        raise Unsealable("the URL has no path")
    return url


def public_client(url: LearnedUrl) -> Client:
    """The client of this URL where only its identity counts: at the token endpoint.

    No document is fetched there: everything that can be presented was issued to the client after its document had been
    read, and a client without a secret proves itself by what it presents.
    """
    return Client(id=url.text, name="", redirect_uris=(), source="document")


def process_client_document(url: LearnedUrl, body: bytes, *, schemes: Container[str] = ()) -> Client:
    """The client that the document at `url` describes.

    Redirect URIs that cannot be used here are left out: the document is written for every authorization server.

    Raises:
        Unfetchable: for anything that is not this client's document. What else it may be is nobody's business.
        Refusal: 400 ``invalid_client_metadata`` for this client's document, if it cannot be used; the text says why.
    """
    metadata = _json_object(url, body)
    # 4: "MUST contain a client_id property whose value MUST match the Client Identifier URL", by simple comparison.
    if metadata.get("client_id") != url.text:
        raise Unfetchable(f"the document at {url.text} has another client_id, or none")
    # 4.1: "the client_secret and client_secret_expires_at properties MUST NOT be used".
    for name in ("client_secret", "client_secret_expires_at"):
        if name in metadata:
            raise invalid_metadata(f"its metadata document holds {name}")
    _require_public(metadata)
    return Client(
        id=url.text,
        name=name_for_code_flow(metadata),
        redirect_uris=_usable(metadata.get("redirect_uris"), schemes),
        source="document",
    )


def lifetime(cache_control: str) -> float:
    """For how many seconds a document may be used without being fetched again."""
    if _NEVER.search(cache_control):
        return MIN_LIFETIME
    found = _MAX_AGE.search(cache_control)
    return min(max(float(found[1]), MIN_LIFETIME), MAX_LIFETIME) if found else LIFETIME


def _require_public(metadata: dict[str, Any]) -> None:
    """Methods with a shared secret are forbidden (4.1), those with keys we do not have; a client without any is taken.

    A document may name a preferred method, and beside it those that it can do without (ChatGPT's does).
    """
    method = metadata.get("token_endpoint_auth_method", "none")
    if isinstance(method, str) and method.startswith("client_secret"):
        raise invalid_metadata("its metadata document asks for a shared secret, which nobody could have shared")
    others = metadata.get("token_endpoint_auth_methods_supported")
    if method != "none" and not (isinstance(others, list) and "none" in others):
        raise invalid_metadata("its metadata document asks for an authentication method; only 'none' is possible here")


def _usable(value: Any, schemes: Container[str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(uri, str) for uri in value):
        raise invalid_metadata("redirect_uris of its metadata document is not a list of URIs")
    if len(value) > MAX_REDIRECT_URIS:
        raise invalid_metadata(f"its metadata document has more than {MAX_REDIRECT_URIS} redirect_uris")
    usable: list[str] = []
    why = "it names none"
    for uri in value:
        try:
            usable.append(parse_redirect_uri(uri, schemes).text)
        except Refusal as exc:
            why = exc.description
    if not usable:
        raise invalid_metadata(f"its metadata document has no redirect URI that can be used here. {why}".rstrip("."))
    return tuple(usable)


def _json_object(url: LearnedUrl, body: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(body, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as exc:
        raise Unfetchable(f"the document at {url.text} is not JSON: {type(exc).__name__}") from None
    if not isinstance(metadata, dict):
        raise Unfetchable(f"the document at {url.text} is not a JSON object")
    return metadata


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two parsers must not be able to read two documents."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
