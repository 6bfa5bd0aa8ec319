"""Programs that we start: their arguments, environment and directory. Raises `Wrong`.

An argument or a variable may be a secret: no message quotes one. This file must not know what the program is for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .model import Secret
from .scalars import Wrong, parse_text, show
from .secrets import read_secret

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def parse_command(value: Any) -> tuple[str, ...]:
    """A program and its arguments, as they are handed over: no shell, so no quotes, no ``~`` and no ``|``."""
    if isinstance(value, str):
        raise Wrong("is one text; write the program and each argument as an item of a list: [npx, -y, server]")
    if not isinstance(value, list) or not value:
        raise Wrong(f"{show(value) if value else 'an empty list'} is not a command; write a list: [npx, -y, server]")
    for number, item in enumerate(value):
        if not isinstance(item, str):
            hint = "; put it in quotes" if isinstance(item, bool | int | float) else ""
            raise Wrong(f"is not a text{hint}", item=number)
        if "\0" in item or (number == 0 and not item.strip()):
            raise Wrong("is empty or holds a NUL; no program gets that", item=number)
    return tuple(str(item) for item in value)


def parse_variable_name(value: Any) -> str:
    """The name of an environment variable."""
    text = parse_text(value)
    if not _VARIABLE.fullmatch(text):
        raise Wrong(f"{show(value)} is not the name of an environment variable; expected A-Z a-z 0-9 _, no digit first")
    return text


def read_variable(value: Any, cwd: Path) -> Secret:
    """The value of an environment variable, which may be empty."""
    if value == "":
        return Secret("")
    secret = read_secret(value, cwd)
    if "\0" in secret.reveal():
        raise Wrong("holds a NUL, which ends an environment variable; remove it")
    return secret


def read_directory(value: Any, cwd: Path) -> str:
    """The path of a directory that exists, made absolute."""
    path = (cwd / parse_text(value)).absolute()
    if not path.is_dir():
        raise Wrong(f"'{path}' is not a directory")
    return str(path)
