"""What an upstream's authorization server is to be told beyond what it says of itself. Pure; raises `Wrong`."""

from __future__ import annotations

import re
from typing import Any

from .scalars import Wrong, parse_text, show

# Parameters of the authorization request that are ours to set, or that would change how the answer comes back.
OWN_PARAMETERS = frozenset(
    "client_id client_secret redirect_uri response_type response_mode state nonce scope resource code_challenge "
    "code_challenge_method request request_uri registration".split()
)
INSTEAD = {"client_id": "clientId", "client_secret": "clientSecret", "scope": "scopes", "resource": "sendResource"}
# What the aggregator serves itself, by the first step of the path; a test compares this with its routes.
TAKEN_PATHS = frozenset(
    "mcp register token revoke authorize callback consent login logout sign-in sign-out sign-out-everywhere "
    "connect connected connections clients tools dashboard static favicon.ico robots.txt healthz livez readyz metrics "
    ".well-known".split()
)
CALLBACKS = "/upstream-auth/callback"  # and one step more for each upstream

_PARAMETER = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)  # RFC 6749 8.2: param-name = 1*name-char
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?", re.ASCII)


def parse_authorization_parameter(value: Any) -> str:
    """The name of a further parameter of the authorization request."""
    text = parse_text(value)
    if not _PARAMETER.fullmatch(text):
        raise Wrong(f"{show(value)} is not the name of a parameter; write one like 'access_type'")
    if text.lower() in OWN_PARAMETERS:
        key = INSTEAD.get(text.lower())
        raise Wrong(f"'{text}' is set by the aggregator itself; " + (f"use the key '{key}'" if key else "remove it"))
    return text


def parse_callback_path(value: Any) -> str:
    """Where the browser comes back to with an upstream's answer: a path below the issuer URL's, none of our own."""
    text = parse_text(value)
    if not text.startswith("/"):
        raise Wrong(f"{show(value)} does not begin with '/'", f"/{text}" if _PATH.fullmatch(f"/{text}") else None)
    steps = text.strip("/").split("/")
    if not _PATH.fullmatch(text) or len(text) > 200 or any(not step.strip(".") for step in steps):
        raise Wrong(f"{show(value)} is not a plain path; use letters, digits and . _ ~ - between the slashes")
    if steps[0] in TAKEN_PATHS or (steps[0] == "upstream-auth" and not _is_below(text, CALLBACKS)):
        raise Wrong(f"{show(value)} is a path of the aggregator's own; use '{CALLBACKS}' or one of yours")
    return text


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")
