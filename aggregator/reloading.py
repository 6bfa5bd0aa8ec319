"""When the configuration is loaded again, and what is said of it: SIGHUP, a changed file; SIGUSR1 tries what fails.

What is wrong with a configuration keeps it out as a whole; the one before stays.
This file must not know what a configuration means.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import trio

from .config.load import Loaded
from .config.model import LocalConfig, Servable
from .errors import ConfigError, Problem
from .upstream.roster import Change
from .watched_files import WatchedFiles, look

WATCH_INTERVAL = 1.0  # seconds; a change counts when two looks in a row find the same

log = logging.getLogger(__name__)


class Changeable(Protocol):
    """What serves."""

    async def become(self, config: Servable) -> Change: ...

    def try_now(self, name: str | None = None) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Reload:
    """How the configuration is loaded again; `files` are looked at for changes, if any are named.

    `running` is what was loaded first. `load` blocks, and raises ConfigError as `load_config` does.
    """

    running: Servable
    load: Callable[[], Loaded]
    files: Sequence[str] = ()


async def obey_signals(
    serving: Changeable, reload: Reload, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """SIGHUP loads the configuration again, SIGUSR1 tries upstreams that fail; until cancelled."""
    with trio.open_signal_receiver(signal.SIGHUP, signal.SIGUSR1) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                await load_again(serving, reload)
            else:
                tried = serving.try_now()
                log.info("SIGUSR1: %s", f"trying {', '.join(tried)} now" if tried else "no upstream fails")


async def watch(serving: Changeable, reload: Reload) -> None:
    """Load the configuration again whenever one of its files has changed; until cancelled."""
    watched = WatchedFiles(reload.files, WATCH_INTERVAL, known=look(reload.files))
    while True:
        await watched.wait_changed()
        await load_again(serving, reload)


async def load_again(serving: Changeable, reload: Reload) -> bool:
    """Take up what the configuration says now; False if it stays as it was because something is wrong with it."""
    try:
        loaded = await trio.to_thread.run_sync(reload.load)
        config = loaded.config
    except ConfigError as exc:
        for problem in exc.problems:
            log.error("configuration: %s", _in_words(exc.source, problem))
        log.error("the configuration was not taken up; the one before stays")
        return False
    for problem in loaded.warnings:
        log.warning("configuration: %s", _in_words(loaded.source, problem))
    change = await serving.become(config)
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (("added", change.added), ("changed", change.changed), ("removed", change.removed))
        if names
    ]
    log.info("configuration: loaded again from %s: %s", loaded.source, "; ".join(parts) or "no upstream changed")
    if waiting := waiting_for_restart(reload.running, config):
        log.warning("configuration: restart to have the new %s", ", ".join(waiting))
    return True


def waiting_for_restart(running: Servable, config: Servable) -> tuple[str, ...]:
    """The keys, as files have them, in which `config` differs from what was `running` first, but for the upstreams."""
    if isinstance(running, LocalConfig) != isinstance(config, LocalConfig):
        return ("auth",)
    names = [each.name for each in fields(config) if each.name != "upstreams"]
    changed = [name for name in names if getattr(running, name) != getattr(config, name)]
    if {"port", "tls"} & set(changed) and "issuer_url" in changed:
        changed.remove("issuer_url")  # it follows from those
    return tuple(_as_written(name) for name in changed)


def _as_written(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _in_words(source: str, problem: Problem) -> str:
    place = ":".join(str(part) for part in (source, problem.line, problem.column) if part is not None)
    words = ": ".join(part for part in (place, problem.path, problem.message) if part)
    return f"{words}; did you mean '{problem.suggestion}'?" if problem.suggestion else words
