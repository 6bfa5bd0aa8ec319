"""From a source to a `Config`: read, expand, validate, and report everything wrong at once.

This file owns the order of the steps and the translation of pydantic's errors
into `Problem`s. It must not know single keys beyond those it fills in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, get_args

from ..errors import ConfigError, Problem
from .build import config_of, local_storage, not_yet_served, served
from .document import Document, Path, parse_document
from .expand import expand_tree
from .find import VARIABLE, find_source
from .mask import mask_document
from .mcpmux import is_mcpmux, read_mcpmux
from .model import AnyConfig, Servable
from .rules import broken_rules, empty_values
from .scalars import Misplaced, Wrong, nearest, show
from .warn import warnings_for


@dataclass(frozen=True, slots=True)
class Loaded:
    """A good configuration, the name of where it came from, what is worth a word, and its text without secrets."""

    settings: AnyConfig
    source: str
    warnings: tuple[Problem, ...]
    text: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Where to look for changes: the file that it came from, if it came from one."""
        return () if self.source == VARIABLE else (os.path.abspath(self.source),)

    @property
    def config(self) -> Servable:
        """The configuration as something that can be served.

        Raises:
            ConfigError: if it asks for what is not available yet.
        """
        if isinstance(self.settings, Servable):
            return self.settings
        raise ConfigError(self.source, self.not_yet, text=self.text)

    @property
    def not_yet(self) -> tuple[Problem, ...]:
        """What stands in the way of serving it."""
        return tuple(not_yet_served(self.settings))


def load_config(
    explicit: str | None = None, *, environ: Mapping[str, str] | None = None, cwd: FilePath | None = None
) -> Loaded:
    """Find, read and check the configuration. Relative paths count from `cwd`.

    Raises:
        NoConfig: if none was named and none was found.
        ConfigError: with every problem, in file order.
    """
    environ = os.environ if environ is None else environ
    cwd = FilePath.cwd() if cwd is None else cwd
    source = find_source(explicit, environ=environ, cwd=cwd)
    return parse_config(source.text, source=source.name, environ=environ, cwd=cwd)


def parse_config(text: str, *, source: str, environ: Mapping[str, str], cwd: FilePath) -> Loaded:
    """The configuration that `text` is.

    Raises:
        ConfigError: with every problem, in file order.
    """
    document = parse_document(text)
    if is_mcpmux(document):
        return _load_mcpmux(document, source=source, environ=environ)
    masked = mask_document(document)
    if document.broken:
        raise ConfigError(source, document.problems, text=masked)
    if shape := _wrong_shape(document):
        raise ConfigError(source, (shape,), text=masked)
    root, unexpanded = expand_tree(document.root, environ)
    problems = [*document.problems, *(document.problem(path, message) for path, message in unexpanded)]
    from .vocabulary import File  # here, because pydantic is most of the start-up and broken files need none of it

    keys, invalid = _validate(File, root, cwd)
    found = [*empty_values(root), *invalid, *broken_rules(root, environ)]
    reported = {path for path, _ in unexpanded} | document.faulty
    for path, wrong in found:
        if any(path == other[: len(path)] for other in reported):
            continue  # one word per value: the first, which is the most basic; or the one about a part of it
        reported.add(path)
        problems.append(document.problem(path, str(wrong), at_key=wrong.at_key, suggestion=wrong.suggestion))
    if problems or keys is None:
        raise ConfigError(source, in_file_order(problems), text=masked)
    config = config_of(keys, environ)
    return Loaded(config, source, tuple(warnings_for(config, document)), masked)


_KEY = "[key]"  # pydantic's last step where the key of a mapping is wrong


def _load_mcpmux(document: Document, *, source: str, environ: Mapping[str, str]) -> Loaded:
    read = read_mcpmux(document.text, environ, local_storage(environ))
    if read.config is None:
        raise ConfigError(source, in_file_order(read.problems), text=read.masked)
    return Loaded(served(read.config), source, in_file_order(read.warnings), read.masked)


def in_file_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))


_OF_CLIENTS = (("mcpServers",), ("servers",))  # what clients' own files call the list of servers


class _UnknownKey(Misplaced):
    pass


def _wrong_shape(document: Document) -> Problem | None:
    root = document.root
    if not isinstance(root, dict):
        what = "is empty" if root is None else f"holds {show(root)}"
        return Problem("", f"{what}; expected a mapping with the key 'upstreams', and with 'auth' for a team", 1, 1)
    if "backends" not in root:
        return None
    told = "'backends' is a key of mcpmux, 'upstreams' one of mcp-aggregator; one file is one or the other"
    return document.problem(("backends",), told, at_key=True)


def _validate(model: Any, root: Any, cwd: FilePath) -> tuple[Any, list[tuple[Path, Wrong]]]:
    """The validated keys, or what pydantic found wrong."""
    from pydantic import ValidationError

    try:
        return model.model_validate(root, context={"cwd": cwd}), []
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
    return None, [_located(tuple(error["loc"]), _translate(error, model)) for error in errors]


def _located(path: Path, wrong: Wrong) -> tuple[Path, Wrong]:
    if path[-1:] == (_KEY,):
        return path[:-1], Misplaced(str(wrong), wrong.suggestion)
    return (path if wrong.item is None else (*path, wrong.item)), wrong


def _translate(error: Any, model: Any) -> Wrong:
    """Our words for one of pydantic's errors. Values are quoted by our own parsers only, which know the secrets."""
    path: Path = tuple(error["loc"])
    match error["type"]:
        case "value_error":
            cause = error["ctx"]["error"]
            return cause if isinstance(cause, Wrong) else Wrong(str(cause))
        case "missing":
            return Wrong("is missing")
        case "extra_forbidden" if path in _OF_CLIENTS:
            return _UnknownKey(
                "is for clients; here it is 'upstreams', a list of {name: x, command: [npx, -y, server]}"
            )
        case "extra_forbidden":
            return _UnknownKey("is not a known key", nearest(str(path[-1]), _keys_around(model, path)))
        case "too_short":
            return Wrong("is empty; give at least one")
        case "list_type":
            return Wrong(f"{show(error['input'])} is not a list" + _as_list(error["input"]))
        case "model_type" | "model_attributes_type" | "dict_type":
            kind = path[-1] == "auth" and len(path) > 1 and isinstance(error["input"], str)
            meant = f"{{type: {error['input']}}}" if kind and error["input"].isalpha() else None
            return Wrong(f"{show(error['input'])} is not a mapping of keys", meant)
        case other:
            return Wrong(f"cannot be used ({other})")


def _as_list(value: Any) -> str:
    return "; write [...] around it" if isinstance(value, str) else ""


def _keys_around(model: Any, path: Path) -> list[str]:
    """The keys that are known where `path` stands."""
    for step in path[:-1]:
        if isinstance(step, str):
            annotation = next(info.annotation for info in model.model_fields.values() if info.alias == step)
            model = next(iter(get_args(annotation)), annotation)  # list[Keys] or Keys
    return [info.alias for info in model.model_fields.values()]
