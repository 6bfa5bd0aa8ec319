"""npm packages as a browser takes them: an import map and the files behind it, without a bundler.

Resolves bare names by each package's `exports` (Node's rules, as far as these packages use them) with a browser's
conditions. It must not know what a page does with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .install import node_package

CONDITIONS = ("browser", "import", "module", "default")
ROOT = "/npm/"  # where a page finds the packages

_IMPORTED = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["']([^"'\s]+)["']""")


def import_map(names: Iterable[str]) -> dict[str, str]:
    """For these bare names and whatever they import themselves: the paths to ask for."""
    found: dict[str, str] = {}
    seen: set[Path] = set()
    pending = [resolve(name) for name in names]
    found.update({name: url_of(resolve(name)) for name in names})
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in _IMPORTED.findall(file.read_text()):
            if name.startswith("."):
                inner = file.parent / name
                if inner.is_file():
                    pending.append(inner.resolve())
            elif not name.startswith("node:") and name not in found and (module := _found(name)) is not None:
                found[name] = url_of(module)
                pending.append(module)
    return found


def resolve(name: str) -> Path:
    """The file of a bare name such as ``zod/v4``.

    Raises:
        LookupError: if the package does not offer it to browsers.
    """
    parts = name.split("/")
    length = 2 if name.startswith("@") else 1
    package, rest = "/".join(parts[:length]), "/".join(parts[length:])
    described = json.loads(node_package(f"{package}/package.json").read_text())
    exports = described.get("exports", {".": described.get("module") or described.get("main", "index.js")})
    if isinstance(exports, str) or not any(key.startswith(".") for key in exports):
        exports = {".": exports}
    target = _choose(exports.get(f"./{rest}" if rest else "."))
    if target is None:
        raise LookupError(f"{package} offers no {name} to browsers")
    return node_package(f"{package}/{target}").resolve()


def url_of(file: Path) -> str:
    return ROOT + file.relative_to(node_package(".").resolve()).as_posix()


def file_of(path: str) -> Path | None:
    """The file at a path below `ROOT`, None if there is none."""
    root = node_package(".").resolve()
    file = (root / path.removeprefix(ROOT)).resolve()
    return file if path.startswith(ROOT) and file.is_relative_to(root) and file.is_file() else None


def _found(name: str) -> Path | None:
    try:
        return resolve(name)
    except (LookupError, RuntimeError):
        return None  # text that looks like an import, or a package for other places


def _choose(target: Any) -> str | None:
    if isinstance(target, str):
        return target
    if isinstance(target, dict):
        for condition, inner in target.items():
            if condition in CONDITIONS and (chosen := _choose(inner)) is not None:
                return chosen
    return None
