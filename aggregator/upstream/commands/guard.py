"""The guard of one command: a process that starts it, watches a socket to us, and ends its whole group with us.

It runs as a script of its own, `python -I -S guard.py <socket> <argv>...`, and so
uses nothing but the standard library's cheapest modules. On the socket it says
``started <pid>``, ``failed <errno>`` or ``exited <code>``, a line each; it obeys
``T`` (SIGTERM to the group) and ``K`` (SIGKILL). When the socket ends, for whatever
reason and be it our own SIGKILL, or when the command has ended, the group gets
SIGTERM, `GRACE` seconds, and SIGKILL. What left the group did so on purpose.

Why not PR_SET_PDEATHSIG: it fires when the *thread* that forked ends, and trio
forks in worker threads, which end when idle.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from time import monotonic

GRACE = 2.0  # seconds between SIGTERM and SIGKILL
LOOK_AGAIN = 0.02  # seconds; whether a group is empty can only be polled
AFTER_KILL = 1.0  # seconds for the dead to be reaped; where nobody reaps (PID 1 of a container) they stay for ever
# What reaches every process of a terminal or a cgroup must not end the one that cleans up.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def main(control: int, argv: list[str]) -> int:
    """Returns when the group is gone: 0, or 127 if the command could not be started."""
    os.set_inheritable(control, False)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    try:
        pid = os.posix_spawnp(
            argv[0], argv, os.environ, setpgroup=0, setsigdef=[*IGNORED, signal.SIGPIPE, signal.SIGXFSZ]
        )
    except OSError as exc:
        say(control, f"failed {exc.errno}")
        return 127
    nothing = os.open(os.devnull, os.O_RDWR)
    for end in (0, 1, 2):  # the command's pipes are to end with the command
        os.dup2(nothing, end)
    say(control, f"started {pid}")
    watch(pid, control, woken)
    end_group(pid)
    return 0


def watch(pid: int, control: int, woken: int) -> None:
    """Until the command has ended, or nobody is left who wants it."""
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            say(control, f"exited {os.waitstatus_to_exitcode(status)}")
            return
        if control in ready:
            try:
                orders = os.read(control, 16)
            except ConnectionError:
                return
            if not orders:
                return
            signal_group(pid, signal.SIGKILL if b"K" in orders else signal.SIGTERM)


def end_group(pid: int) -> None:
    for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, AFTER_KILL)):
        until = monotonic() + seconds
        there = signal_group(pid, number)
        while there and monotonic() < until:
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass
            select.select([], [], [], LOOK_AGAIN)
            there = signal_group(pid, 0)


def signal_group(pid: int, number: int) -> bool:
    """Whether there is anybody left in the group."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # a member that changed its user; macOS says so of zombies, too
        return True
    return True


def say(control: int, words: str) -> None:
    try:
        os.write(control, words.encode() + b"\n")
    except OSError:
        pass  # nobody listens any more


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
