"""Headers that an upstream gets with every request: which names are free, and what a value may hold.

A value is a secret until somebody proves otherwise: no message quotes one. This file must not know which upstream
gets what.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .model import Secret
from .scalars import Wrong, parse_text, show
from .secrets import read_secret

MAX_VALUE = 8192  # characters; servers commonly take 8 KiB for all headers together
BEARER = "Bearer "

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", re.ASCII)  # RFC 9110 5.6.2: token
_VALUE = re.compile(r"[\x20-\x7e\t]*", re.ASCII)  # RFC 9110 5.5, without obs-text
_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)  # wider than RFC 6750's b64token, as the tokens in use are

_OF_THE_CONNECTION = frozenset(
    "host content-length transfer-encoding connection keep-alive proxy-connection te trailer upgrade expect".split()
)
_OF_THE_PROTOCOL = frozenset("accept accept-encoding content-type content-encoding last-event-id".split())


def parse_header_name(value: Any) -> str:
    """The name of a header that the operator may set, as written."""
    text = parse_text(value)
    if not _NAME.fullmatch(text):
        raise Wrong(f"{show(value)} is not the name of a header; write one like 'X-Api-Key'")
    name = text.lower()
    if name in _OF_THE_CONNECTION:
        raise Wrong(f"'{text}' belongs to the connection, which makes it itself; remove it")
    if name in _OF_THE_PROTOCOL or name.startswith("mcp-"):
        raise Wrong(f"'{text}' belongs to MCP and is different with every request; remove it")
    if name == "proxy-authorization":
        raise Wrong(f"'{text}' is for a proxy and not for an upstream; give user and password in outbound.proxy")
    return text


def read_header_value(value: Any, cwd: Path) -> Secret:
    """What a header says: a text, or ``{"file": PATH}``."""
    return _checked(read_secret(value, cwd))


def read_bearer_token(value: Any, cwd: Path) -> Secret:
    """A token, without the word that stands before it in the header."""
    secret = read_secret(value, cwd)
    text = secret.reveal()
    if text[: len(BEARER)].lower() == BEARER.lower():
        raise Wrong("begins with 'Bearer '; give the token alone, the word is added")
    if not _TOKEN.fullmatch(text):
        raise Wrong(
            "holds a space, a line break or a character that is not ASCII; a token has none: is it copied whole?"
        )
    return _checked(secret)


def read_again(secret: Secret) -> Secret:
    """`secret` as its file says now; itself if it is of no file. Reads a file, so it blocks.

    Raises:
        Wrong: if the file is gone, or holds what no header may say; without ever quoting it.
    """
    if secret.file is None:
        return secret
    read = read_bearer_token if secret.prefix == BEARER else read_header_value
    return read({"file": secret.file}, Path()).after(secret.prefix)


def _checked(secret: Secret) -> Secret:
    text = secret.reveal()
    if not _VALUE.fullmatch(text):
        # RFC 9110 5.5: "Field values containing CR, LF, or NUL characters are invalid and dangerous".
        raise Wrong("holds a line break, a control character or one that is not ASCII; a header cannot say that")
    if text != text.strip():
        raise Wrong("begins or ends with a space, which a header loses on its way; remove it")
    if len(text) > MAX_VALUE:
        raise Wrong(f"has {len(text)} characters; more than {MAX_VALUE} are refused by most servers")
    return secret
