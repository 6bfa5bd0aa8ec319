"""``${NAME}`` and ``${NAME:-default}`` in a configuration's texts.

Expansion happens after parsing and in texts only, so that a value can never
add a key or another list item. This file owns the grammar; it must not know
which keys exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .document import Path

_DOLLAR = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{", re.ASCII)


class Expanded(str):
    """A text that came, at least in part, from the environment; `written` is what the file says."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, text: str, written: str) -> Expanded:
        self = super().__new__(cls, text)
        self.written = written
        return self


class Unexpandable(ValueError):
    """A text names a variable that is not set, or is not of the grammar."""


def expand_text(text: str, environ: Mapping[str, str]) -> str:
    """`text` with its variables replaced; ``$${`` stands for a literal ``${``.

    The default of ``${NAME:-default}`` is taken when the variable is unset or empty, as in a shell.
    The result is an `Expanded` exactly if a variable was replaced.

    Raises:
        Unexpandable: if a variable is not set, or ``${`` begins something else.
    """
    if "${" not in text:
        return text
    replaced = False

    def replace(found: re.Match[str]) -> str:
        nonlocal replaced
        if found[0] == "$${":
            return "${"
        name, default = found[1], found[2]
        if name is None:
            raise Unexpandable("'${' begins neither '${NAME}' nor '${NAME:-default}'; write '$${' for the characters")
        replaced = True
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise Unexpandable(f"the environment variable {name} is not set; set it, or write '${{{name}:-default}}'")
        return value

    result = _DOLLAR.sub(replace, text)
    return Expanded(result, text) if replaced else result


def expand_tree(tree: Any, environ: Mapping[str, str]) -> tuple[Any, list[tuple[Path, str]]]:
    """A copy of `tree` with every text expanded, and what went wrong where. A text that failed stays as it is."""
    faults: list[tuple[Path, str]] = []

    def walk(value: Any, path: Path) -> Any:
        match value:
            case dict():
                return {key: walk(item, (*path, key)) for key, item in value.items()}
            case list():
                return [walk(item, (*path, index)) for index, item in enumerate(value)]
            case str():
                try:
                    return expand_text(value, environ)
                except Unexpandable as exc:
                    faults.append((path, str(exc)))
        return value

    return walk(tree, ()), faults
