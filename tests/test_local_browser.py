"""Opening a page in the person's browser: which program, with what, and nobody waits for it."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
import trio

from aggregator.local_browser import browser_commands, open_in_browser
from tests.parts.processes import PATIENCE, wait_until

URL = "http://localhost:8080/connect/mail"


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({}, "linux", []),
        ({"DISPLAY": ":0"}, "linux", [("xdg-open", "%s")]),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", [("xdg-open", "%s")]),
        ({}, "darwin", [("open", "%s")]),
        ({"BROWSER": "firefox"}, "linux", [("firefox", "%s")]),
        ({"BROWSER": "a --new-window %s:b"}, "linux", [("a", "--new-window", "%s"), ("b", "%s")]),
        ({"BROWSER": "a", "DISPLAY": ":0"}, "linux", [("a", "%s"), ("xdg-open", "%s")]),
    ],
)
def test_the_persons_own_browser_comes_first(
    environ: dict[str, str], platform: str, expected: list[tuple[str, ...]]
) -> None:
    assert list(browser_commands(environ, platform)) == expected


def test_under_systemd_a_browser_gets_a_scope_of_its_own() -> None:
    environ = {"BROWSER": "a", "INVOCATION_ID": "1", "XDG_RUNTIME_DIR": "/run/user/1000"}
    scope = ("systemd-run", "--user", "--scope", "--collect", "--quiet", "--", "a", "%s")
    assert list(browser_commands(environ, "linux")) == [scope, ("a", "%s")]


def program(folder: Path, name: str, text: str) -> str:
    file = folder / name
    file.write_text(f"#!{sys.executable}\nimport os, sys, time\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


@pytest.mark.live
async def test_a_browser_is_started_with_the_address_and_none_of_our_secrets(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    seen = tmp_path / "seen"
    browser = program(
        tmp_path, "browser", f"open({str(seen)!r}, 'w').write(sys.argv[1] + ' ' + os.environ.get('TOKEN', 'none'))"
    )
    with trio.fail_after(PATIENCE):
        assert await nursery.start(open_in_browser, URL, {"BROWSER": browser, "TOKEN": "hunter2"})
    await wait_until(lambda: seen.exists() and seen.read_text() != "")
    assert seen.read_text() == f"{URL} none"


@pytest.mark.live
async def test_the_next_is_tried_where_one_fails_or_is_not_there(tmp_path: Path, nursery: trio.Nursery) -> None:
    fails = tmp_path / "fails"
    fails.write_text("#!/bin/sh\nexit 3\n")  # as fast as a program can: one that has not failed soon is taken for good
    fails.chmod(0o700)
    works = program(tmp_path, "works", "sys.exit(0)")
    with trio.fail_after(PATIENCE):
        environ = {"BROWSER": f"/nowhere/browser:{fails}:{works}"}
        assert await nursery.start(open_in_browser, URL, environ)
        assert not await nursery.start(open_in_browser, URL, {"BROWSER": str(fails)})


@pytest.mark.live
async def test_a_browser_that_stays_is_waited_for_by_nobody(tmp_path: Path) -> None:
    end = tmp_path / "end"
    stays = program(tmp_path, "stays", f"while not os.path.exists({str(end)!r}): time.sleep(0.05)")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as shown:
            assert await shown.start(open_in_browser, URL, {"BROWSER": stays})
            end.touch()
