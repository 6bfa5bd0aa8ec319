"""`mcp-aggregator list`: asks every upstream at once, or one running endpoint, and prints what comes as it comes.

Nothing is served meanwhile. This file owns the waiting and the words; how an
upstream is asked is `upstream/`'s, how an item looks `signatures`'.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import assert_never

import trio

from ..config.model import AnyConfig, AnyUpstream, LocalConfig, Secret, Upstream
from ..errors import ConnectNeeded, StoreUnavailable, UpstreamLost, UpstreamRefused
from ..protocol.catalog import build_catalog
from ..protocol.jsonrpc import Json
from ..protocol.principal import Principal
from ..protocol.source import Source
from ..protocol.texts import clean_line
from ..upstream.authorized import AuthorizedUpstream
from ..upstream.commands import child_log
from .reaching import open_upstreams
from .signatures import description_of, prompt_signature, tool_signature
from .terminal import BOLD, DIM, RED, YELLOW, Terminal

EXIT_UNAVAILABLE, EXIT_LOGIN = 69, 77  # EX_UNAVAILABLE, EX_NOPERM of sysexits.h
EXIT_CUT_SHORT = 1  # as click ends when its reader has gone

# What can be listed: the kind in our words, the method, the key in its result, the capability.
KINDS = {
    "tool": ("tools/list", "tools", "tools"),
    "prompt": ("prompts/list", "prompts", "prompts"),
    "resource": ("resources/list", "resources", "resources"),
    "template": ("resources/templates/list", "resourceTemplates", "resources"),
}
PATIENT = 30.0  # seconds in which `npx` and its like have fetched most servers
HEARD = 3  # last lines of a program that failed which are shown
_OF_A_SERVER = "; the log has"  # what is said after this holds for a server, which has a log and starts programs again


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that is offered. `item` is what the client of a server would get."""

    kind: str
    name: str
    signature: str
    description: str
    item: Json


@dataclass(frozen=True, slots=True)
class Told:
    """An upstream answered. `remarks` are what of its answer cannot be used."""

    entries: tuple[Entry, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoginNeeded:
    reason: str


@dataclass(frozen=True, slots=True)
class Silent:
    """It did not answer, and why. If only for want of time, `longer` is what is worth a try, in seconds."""

    reason: str
    longer: float | None = None


Outcome = Told | LoginNeeded | Silent


def endpoint_upstream(url: str, token: str | None) -> Upstream:
    """A running endpoint as the only upstream, whose names stay as they are."""
    headers = () if token is None else (("Authorization", Secret(f"Bearer {token}")),)
    return Upstream(url, url, prefix="", auth_type="bearer" if token else "none", headers=headers)


def run(
    config: AnyConfig | None,
    upstreams: Sequence[AnyUpstream],
    terminal: Terminal,
    *,
    kinds: Sequence[str],
    descriptions: bool,
    as_json: bool,
    timeout: float,
    option: str = "",
) -> int:
    """Print what `upstreams` offer; the exit code: 0, 69 if some did not answer, else 77 if some wait for a login.

    Without `config` they are endpoints, whose items keep their names. `option` says where the configuration is, if that
    was given.
    """
    printed = Printed(terminal, config, descriptions=descriptions, as_json=as_json, option=option)
    is_read, is_stopped = True, False
    programs = logging.getLogger(child_log.__name__)
    programs.setLevel(logging.DEBUG)
    programs.propagate = False
    programs.addHandler(StderrHeard(printed.hear))
    try:
        trio.run(partial(_ask_all, config, upstreams, kinds, timeout, printed))
    except* BrokenPipeError:
        is_read = False  # whoever read has seen enough
    except* KeyboardInterrupt:
        is_stopped = True
    if is_stopped:
        terminal.progress("")
        raise KeyboardInterrupt  # out of its group, for click to say
    if not is_read:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that flushing at the end says nothing
        return EXIT_CUT_SHORT
    return printed.finish([upstream.name for upstream in upstreams])


async def _ask_all(
    config: AnyConfig | None, upstreams: Sequence[AnyUpstream], kinds: Sequence[str], timeout: float, printed: Printed
) -> None:
    waiting = [upstream.name for upstream in upstreams]
    deadline = trio.current_time() + timeout
    name_length = None if config is None else config.limits.name_length

    async def ask(upstream: AnyUpstream, asked: AuthorizedUpstream, person: Principal | None) -> None:
        outcome: Outcome = Silent(f"no answer within {timeout:g} s", longer=max(PATIENT, 2 * timeout))
        with trio.move_on_at(deadline):
            outcome = await _ask(upstream, asked, person, kinds, name_length)
        waiting.remove(upstream.name)
        printed.wait_for(waiting, len(upstreams))
        printed.outcome(upstream.name, outcome)

    printed.wait_for(waiting, len(upstreams))
    async with open_upstreams(config, upstreams) as reached:
        async with trio.open_nursery() as asking:
            for upstream, asked in zip(upstreams, reached.upstreams, strict=True):
                asking.start_soon(ask, upstream, asked, reached.person)
        printed.wait_for_ends()


async def _ask(
    config: AnyUpstream,
    upstream: AuthorizedUpstream,
    person: Principal | None,
    kinds: Sequence[str],
    name_length: int | None,
) -> Outcome:
    try:
        peer = await upstream.meet(person)
        parts: dict[str, tuple[Json, ...]] = {}
        for kind in kinds:
            method, key, capability = KINDS[kind]
            if kind == "tool" or capability in peer.capabilities:
                parts[key] = tuple((await upstream.list_all(person, method, key))[0])
    except ConnectNeeded as exc:
        return LoginNeeded(str(exc))
    except UpstreamRefused as exc:
        if exc.status == 401 and config.auth_type in ("user", "oauth", "none"):
            return LoginNeeded("it asks for a login")
        if exc.status not in (401, 403) and name_length is None:
            return Silent(f"{exc}; is this the URL of an MCP endpoint? They mostly end in /mcp")
        if exc.status in (401, 403):
            return Silent(f"{exc}: it refuses the credentials that are configured for it")
        return Silent(str(exc))
    except UpstreamLost as exc:
        return Silent(exc.cause)  # we are gone before it could be started again
    except StoreUnavailable as exc:
        return Silent(f"its login is in the store, which is not available: {exc}")
    return _as_they_are(parts) if name_length is None else _as_published(config, parts, name_length)


def _as_published(config: AnyUpstream, parts: dict[str, tuple[Json, ...]], name_length: int) -> Told:
    """Items under the names that clients of ours see. A name that an earlier upstream claims too is not known here."""
    source = Source(
        config.name,
        config.prefix,
        config.display_name or config.name,
        parts.get("tools", ()),
        config.tools.include,
        config.tools.exclude,
        prompts=parts.get("prompts", ()),
        resources=parts.get("resources", ()),
        templates=parts.get("resourceTemplates", ()),
    )
    catalog = build_catalog([source], name_length=name_length)
    lists: dict[str, tuple[Json, ...]] = {kind: paged.shown for kind, paged in catalog.lists.items()}
    prefix = f"[{config.name}] "
    return Told(tuple(_entries(lists, prefix)), catalog.left_out.get(config.name, ()))


def _as_they_are(parts: dict[str, tuple[Json, ...]]) -> Told:
    return Told(tuple(_entries(parts, "")))


def _entries(lists: dict[str, tuple[Json, ...]], prefix: str) -> Iterable[Entry]:
    for kind, (_, key, _) in KINDS.items():
        for item in lists.get(key, ()):
            name = item.get({"resource": "uri", "template": "uriTemplate"}.get(kind, "name"))
            if not isinstance(name, str):
                continue
            match kind:
                case "tool":
                    signature = tool_signature(name, item.get("inputSchema"))
                case "prompt":
                    signature = prompt_signature(name, item.get("arguments"))
                case _:
                    signature = description_of({"description": name})
            yield Entry(kind, name, signature, description_of(item).removeprefix(prefix.strip()).strip(), item)


class StderrHeard(logging.Handler):
    """Hands on what programs write to stderr, which a server would log."""

    def __init__(self, hear: Callable[[str, str], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and len(record.args) == 2:
            self._hear(str(record.args[0]), clean_line(str(record.args[1]), 300))


class Printed:
    """What was told so far, and how it looks."""

    def __init__(
        self, terminal: Terminal, config: AnyConfig | None, *, descriptions: bool, as_json: bool, option: str
    ) -> None:
        self._terminal = terminal
        self._descriptions = descriptions
        self._as_json = as_json
        self._config = config
        self._option = option
        self._outcomes: dict[str, Outcome] = {}
        self._heard: dict[str, deque[str]] = {}

    def hear(self, what: str, line: str) -> None:
        """A line that the program of ``upstream <name>`` wrote to stderr."""
        heard = self._heard.setdefault(what.removeprefix("upstream "), deque(maxlen=HEARD))
        if line not in heard:  # it may have been started twice, and says the same
            heard.append(line)

    def wait_for(self, waiting: Sequence[str], of: int) -> None:
        if not self._as_json:
            text = f"connecting {of - len(waiting)}/{of}, waiting for {', '.join(waiting)}" if waiting else ""
            self._terminal.progress(text)

    def wait_for_ends(self) -> None:
        """All have answered, or had their time; programs may take seconds to end."""
        if not self._as_json:
            self._terminal.progress("ending the programs that were started")

    def outcome(self, name: str, outcome: Outcome) -> None:
        """Raises:
        BrokenPipeError: see `Terminal.data`.
        """
        self._outcomes[name] = outcome
        if self._as_json:
            return
        match outcome:
            case Told(entries, remarks):
                self._entries(name, entries)
                for remark in remarks:
                    self._terminal.say(f"{name}: left out {remark}", YELLOW)
            case LoginNeeded(reason):
                self._terminal.say(f"{name}: {reason}; {self._how_to_log_in(name)}", YELLOW)
            case Silent(reason, longer):
                wait = "" if longer is None else f"; to wait longer: {self._how_to_ask_again(name, longer)}"
                self._terminal.say(f"{name}: {reason.partition(_OF_A_SERVER)[0]}{wait}", RED)
                for line in self._heard.get(name, ()):
                    self._terminal.say(f"    {line}")
            case _:
                assert_never(outcome)

    def finish(self, order: Sequence[str]) -> int:
        self._terminal.progress("")
        if self._as_json:
            self._terminal.data(json.dumps(self._document(order), indent=2, ensure_ascii=False))
        outcomes = self._outcomes.values()
        if any(isinstance(outcome, Silent) for outcome in outcomes):
            return EXIT_UNAVAILABLE
        return EXIT_LOGIN if any(isinstance(outcome, LoginNeeded) for outcome in outcomes) else 0

    def _how_to_log_in(self, name: str) -> str:
        if self._config is None:
            return "give --token"
        if isinstance(self._config, LocalConfig):
            return f"run: mcp-aggregator login {name}{self._option}"
        return f"each person connects their own account: {self._config.issuer_url}/connect/{name}"

    def _how_to_ask_again(self, name: str, longer: float | None) -> str:
        asked = f"--endpoint {shlex.quote(name)}" if self._config is None else f"{name}{self._option}"
        return f"mcp-aggregator list {asked}{'' if longer is None else f' --timeout {longer:g}'}"

    def _entries(self, upstream: str, entries: Iterable[Entry]) -> None:
        terminal = self._terminal
        if not terminal.is_for_people:
            for entry in entries:
                more = (entry.description,) if self._descriptions else ()
                terminal.row(
                    (description_of({"description": entry.name}), entry.kind, upstream, entry.signature, *more)
                )
            return
        terminal.data(terminal.style(upstream, BOLD))
        for entry in entries:
            kind = "" if entry.kind == "tool" else f"{entry.kind} "
            terminal.data(f"  {kind}{entry.signature}")
            if self._descriptions and entry.description:
                terminal.data(terminal.style(f"      {entry.description}", DIM))

    def _document(self, order: Sequence[str]) -> Json:
        made: Json = {"upstreams": []}
        for name in order:
            match self._outcomes[name]:
                case Told(entries, remarks):
                    made["upstreams"].append({"name": name, "state": "answered", "leftOut": list(remarks)})
                    for entry in entries:
                        made.setdefault(KINDS[entry.kind][1], []).append({**entry.item, "upstream": name})
                case LoginNeeded(reason):
                    fix = self._how_to_log_in(name).removeprefix("run: ")
                    made["upstreams"].append({"name": name, "state": "needs_login", "error": reason, "fix": fix})
                case Silent(reason, longer):
                    made["upstreams"].append(
                        {
                            "name": name,
                            "state": "unreachable",
                            "error": reason.partition(_OF_A_SERVER)[0],
                            "fix": self._how_to_ask_again(name, longer),
                            "stderr": list(self._heard.get(name, ())),
                        }
                    )
                case other:
                    assert_never(other)
        return made
