"""Local mode's front door as values: where its socket is to be, and a token that nobody guesses. Raises `Wrong`.

This file must not know who comes in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .headers import read_bearer_token
from .model import Secret
from .scalars import Wrong, parse_text
from .secrets import check_secret

MAX_SOCKET_PATH = 107  # bytes; sockaddr_un has room for 108, one of them NUL


def read_socket_path(value: Any, cwd: Path) -> str:
    """The path of a Unix socket that is to be, made absolute."""
    path = str((cwd / parse_text(value)).absolute())
    if len(path.encode()) > MAX_SOCKET_PATH:
        raise Wrong(f"'{path}' is too long for a Unix socket, which may have {MAX_SOCKET_PATH} bytes")
    return path


def read_listen_token(value: Any, cwd: Path) -> Secret:
    """A bearer token that cannot be guessed."""
    secret = read_bearer_token(value, cwd)
    check_secret(secret.reveal())
    return secret
