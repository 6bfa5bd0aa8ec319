"""How a person is called at an authorization server: a label for pages, from the ID token or from userinfo.

Nothing here is verified, and nothing may be decided by it: it helps people see
which of their accounts they connected. This file must not know who asks.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ..oidc.documents import read_object
from .challenge import split_scope
from .server import ServerMetadata

MAX_LABEL = 120  # characters

_SCOPES = frozenset({"openid", "profile", "email"})
_CLAIMS = ("email", "preferred_username", "login", "nickname", "name")


def label_of_token_response(body: bytes) -> str | None:
    """From the ID token beside the tokens, if there is one."""
    try:
        id_token = read_object(body).get("id_token")
        if not isinstance(id_token, str) or id_token.count(".") != 2:
            return None
        part = id_token.split(".")[1]
        return _label(read_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))
    except (ValueError, binascii.Error):
        return None


def userinfo_request(server: ServerMetadata, scope: str | None, access_token: str) -> tuple[str, dict[str, str]] | None:
    """URL and headers of the GET that asks; None where there is nothing to ask or the scope does not allow it."""
    if server.userinfo_endpoint is None or not _SCOPES & set(split_scope(scope or "")):
        return None
    return server.userinfo_endpoint, {"accept": "application/json", "authorization": f"Bearer {access_token}"}


def label_of_userinfo(status: int, body: bytes) -> str | None:
    try:
        return _label(read_object(body)) if status == 200 else None
    except ValueError:
        return None


def _label(claims: Mapping[str, Any]) -> str | None:
    for name in _CLAIMS:
        value = claims.get(name)
        if isinstance(value, str) and (text := " ".join("".join(c if c.isprintable() else " " for c in value).split())):
            return text[:MAX_LABEL]
    return None
