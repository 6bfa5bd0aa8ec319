"""Opening a page in the browser of the person at this machine, if there is one.

The browser is theirs and outlives us; nothing waits for it. This file must not
know what is on the page: its address is no secret.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping

import trio

from .upstream.commands.child_environment import FOR_HELPERS, child_environment

FAILS_WITHIN = 2.0  # seconds in which a program says that it cannot; one that runs longer is taken for the browser

_FOR_BROWSERS = FOR_HELPERS | frozenset(
    "DESKTOP_SESSION GNOME_DESKTOP_SESSION_ID KDE_FULL_SESSION KDE_SESSION_VERSION XAUTHORITY XDG_CURRENT_DESKTOP "
    "XDG_SEAT XDG_SESSION_DESKTOP XDG_SESSION_ID XDG_SESSION_TYPE".split()
)

log = logging.getLogger(__name__)


async def open_in_browser(
    url: str,
    environ: Mapping[str, str] | None = None,
    *,
    task_status: trio.TaskStatus[bool] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Have a browser show `url`; `task_status` hears, within seconds, whether one was started.

    Goes on until the browser's program ends; when this is cancelled, that goes on without us.
    """
    ours = os.environ if environ is None else environ
    for argv in browser_commands(ours, sys.platform):
        process = await _start([*argv[:-1], argv[-1].replace("%s", url)], ours)
        if process is None:
            continue
        with trio.move_on_after(FAILS_WITHIN):
            if await process.wait() != 0:
                log.info("%s could not open a browser", os.path.basename(argv[0]))
                continue
        task_status.started(True)
        await process.wait()
        return
    task_status.started(False)


def browser_commands(environ: Mapping[str, str], platform: str) -> Iterator[tuple[str, ...]]:
    """What to try, in order; the last argument has ``%s`` in the place of the address.

    ``$BROWSER`` comes first, then the desktop's own way where there is a desktop. Under systemd a browser that we start
    is of our unit and ends with it, so each is tried in a scope of its own before.
    """
    commands = [_with_address(shlex.split(each)) for each in environ.get("BROWSER", "").split(":") if each.strip()]
    if platform == "darwin":
        commands.append(("open", "%s"))
    elif environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"):
        commands.append(("xdg-open", "%s"))
    for command in commands:
        if environ.get("INVOCATION_ID") and environ.get("XDG_RUNTIME_DIR"):
            yield ("systemd-run", "--user", "--scope", "--collect", "--quiet", "--", *command)
        yield command


def _with_address(argv: list[str]) -> tuple[str, ...]:
    # Only the last may hold it: all programs that are used as $BROWSER take it there.
    return tuple(argv) if argv and "%s" in argv[-1] else (*argv, "%s")


async def _start(argv: list[str], environ: Mapping[str, str]) -> trio.Process | None:
    """None if it cannot be started."""
    program = shutil.which(argv[0], path=environ.get("PATH"))
    if program is None:
        return None
    try:
        return await trio.lowlevel.open_process(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # stdout may be a client's, and stderr has no reader
            stderr=subprocess.DEVNULL,
            env=child_environment(environ, _FOR_BROWSERS, {}),
            start_new_session=True,
        )
    except OSError as exc:
        log.info("%s cannot be started: %s", argv[0], exc.strerror)
        return None
