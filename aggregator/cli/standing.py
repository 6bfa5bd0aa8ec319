"""`status`, `retry`, `login` and `logout`: what is asked of the daemon, and the words for what it says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..config.model import AnyConfig, AnyUpstream, LocalConfig, StdioUpstream
from .catalog_list import EXIT_LOGIN, EXIT_UNAVAILABLE
from .daemon import Daemon, NotRunning, Refused, daemon_of
from .loading import EX_CONFIG
from .pasted_lines import PastedLines
from .terminal import BOLD, GREEN, RED, YELLOW, Terminal, table

STATUS, RETRY, LOGOUT = "/control/status", "/control/retry", "/control/logout"
LOGIN, FINISH = "/control/login", "/control/login/finish"
LOGIN_PATIENCE = 600.0  # seconds for one login in a browser
GLANCE = 1.0  # seconds between two looks at whether it is done
SETTLING, SHORT_GLANCE = 15.0, 0.2  # seconds for upstreams that are being connected to say whether they want one

_COLOURS = {"connected": GREEN, "needs_login": YELLOW, "unreachable": RED, "retrying": YELLOW}
_WORDS = {"needs_login": "needs login", "not_started": "not started"}
_HELP = {"needs_login": "run"}  # what the command is good for; where something is to be mended first, the error says it
_PARTLY = "its prompts or resources cannot be listed now, and are those of before: gateway__status says why"
_OUT_OF_REACH = ("unreachable", "retrying")

Row = Mapping[str, Any]


def status(config: AnyConfig, terminal: Terminal, *, as_json: bool, start: str, option: str = "") -> int:
    """How every upstream is; `start` is the command that starts the daemon. Here and below, `option` is the option
    that says where the configuration is, if one was given: the commands that we name need it, too.

    69 if the daemon does not run, or an upstream is out of reach; else 77 if one waits for a login.
    """
    if not isinstance(config, LocalConfig):
        return _team_status(config, terminal, as_json=as_json)
    try:
        told = daemon_of(config).ask("GET", STATUS)
    except NotRunning as exc:
        if as_json:
            terminal.data(json.dumps({"running": False, "error": str(exc), "fix": start}))
        terminal.say(f"not running: {exc}", RED)
        terminal.say(f"start it with: {start}")
        return EXIT_UNAVAILABLE
    except Refused as exc:
        if as_json:
            terminal.data(json.dumps({"running": True, "error": str(exc), "fix": None}))
        terminal.say(f"it runs, and says: {exc}", RED)
        return EXIT_LOGIN
    rows: Sequence[Row] = [{**row, "fix": row["fix"] + option} if "fix" in row else row for row in told["upstreams"]]
    if as_json:
        terminal.data(json.dumps({"running": True, **told, "upstreams": rows}, indent=2, ensure_ascii=False))
    elif terminal.is_for_people:
        for line in status_lines(rows, terminal.style):
            terminal.data(line)
        terminal.say(f"{told['url']}, version {told['version']}")
    else:
        for row in rows:
            terminal.row([str(cell) for cell in status_cells(row)])
    return exit_code_of(rows)


def status_cells(row: Row) -> tuple[str, str, str, str, str]:
    """Name, state, tools, what is wrong, the command that helps."""
    wrong = row.get("error") or (_PARTLY if row.get("stale") else "")
    return row["name"], row["state"], str(row["tools"]), wrong, row.get("fix") or ""


def status_lines(rows: Sequence[Row], style: Callable[[str, str], str]) -> list[str]:
    """A table for people; below each problem the command that helps."""
    cells = [status_cells(row) for row in rows]
    plain = table(
        [
            ("UPSTREAM", "STATE", "TOOLS"),
            *((name, _WORDS.get(state, state), tools) for name, state, tools, _, _ in cells),
        ]
    )
    lines = [style(plain[0], BOLD)]
    for line, (_, state, _, wrong, fix), row in zip(plain[1:], cells, rows, strict=True):
        lines.append(style(line, _COLOURS[state]) if state in _COLOURS else line)
        indent = " " * 4
        lines += [f"{indent}{wrong}"] if wrong else []
        lines += [f"{indent * 2}{said}" for said in row.get("stderr", ())]
        lines += [f"{indent}{_HELP.get(state, 'to try now')}: {fix}"] if fix else []
    return lines


def exit_code_of(rows: Sequence[Row]) -> int:
    states = {row["state"] for row in rows}
    if states & set(_OUT_OF_REACH):
        return EXIT_UNAVAILABLE
    return EXIT_LOGIN if "needs_login" in states else 0


def retry(config: AnyConfig, terminal: Terminal, name: str | None, *, option: str = "") -> int:
    """Have upstreams that fail be tried now."""
    told = _asked(config, terminal, "POST", RETRY, {"upstream": name}, option)
    if isinstance(told, int):
        return told
    tried = told["tried"]
    names = ", ".join(tried)
    terminal.say(f"trying {names} now; see: mcp-aggregator status{option}" if tried else "nothing fails")
    return 0


def logout(config: AnyConfig, terminal: Terminal, name: str, *, option: str = "") -> int:
    """End the account at one upstream."""
    told = _asked(config, terminal, "POST", LOGOUT, {"upstream": name}, option)
    if isinstance(told, int):
        return told
    terminal.say(f"{name}: logged out" if told["ended"] else f"{name}: there was no login")
    return 0 if told["ended"] else 1


def login(
    config: AnyConfig,
    terminal: Terminal,
    names: Sequence[str],
    open_page: Callable[[str], bool] | None,
    *,
    option: str = "",
) -> int:
    """Lead through the logins that are missing, or those of `names`, one after another. 77 if one was not made, 69 if
    one of `names` is out of reach.

    Without `open_page` a browser on another machine will do, whose last address is pasted into our standard input.
    """
    pasted = PastedLines(0) if open_page is None else None
    told = _asked(config, terminal, "GET", STATUS, None, option)
    if isinstance(told, int):
        return told
    assert isinstance(config, LocalConfig)
    try:
        return _lead(config, terminal, told["upstreams"], names, open_page, pasted, option)
    except (NotRunning, Refused) as exc:
        terminal.progress("")
        terminal.say(f"the daemon has ended meanwhile: {exc}", RED)
        return EXIT_UNAVAILABLE


def _lead(
    config: LocalConfig,
    terminal: Terminal,
    rows: Sequence[Row],
    names: Sequence[str],
    open_page: Callable[[str], bool] | None,
    pasted: PastedLines | None,
    option: str,
) -> int:
    """See `login`; `rows` are how the upstreams were just now.

    Raises:
        NotRunning, Refused: if the daemon answers no more.
    """
    daemon = daemon_of(config)
    known = {upstream.name for upstream in config.upstreams if upstream.browser_login is not None}
    rows = _settled(daemon, terminal, rows, known & set(names) if names else known)
    code = 0
    wanted = [row for row in rows if (row["name"] in names if names else row["state"] == "needs_login")]
    for row in wanted:
        if row["state"] in _OUT_OF_REACH:
            terminal.say(f"{row['name']}: {row['error'] or 'is out of reach'}", RED)
            terminal.say(f"    to try now: {row['fix']}{option}")
            code = EXIT_UNAVAILABLE
        elif row["state"] != "needs_login":
            terminal.say(f"{row['name']}: nothing to log in to ({_WORDS.get(row['state'], row['state'])})")
        elif not _log_in(daemon, terminal, row, config.has_pages, open_page, pasted):
            terminal.say(f"{row['name']}: no login within {LOGIN_PATIENCE:g} s", RED)
            return EXIT_LOGIN
    if not wanted:
        terminal.say("no upstream waits for a login")
        unknown = [
            row["name"] for row in rows if row["name"] in known and row["state"] in (*_OUT_OF_REACH, "connecting")
        ]
        if unknown:
            terminal.say(f"not known of {', '.join(unknown)}; see: mcp-aggregator status{option}", YELLOW)
    return code


def _settled(daemon: Daemon, terminal: Terminal, rows: Sequence[Row], names: set[str]) -> Sequence[Row]:
    """`rows`, or newer ones, in which none of `names` is being connected: it may want a login, and has not said so."""
    until = time.monotonic() + SETTLING
    while time.monotonic() < until:
        unsettled = [row["name"] for row in rows if row["name"] in names and row["state"] == "connecting"]
        if not unsettled:
            break
        terminal.progress(f"waiting for {', '.join(unsettled)}")
        time.sleep(SHORT_GLANCE)
        rows = daemon.ask("GET", STATUS)["upstreams"]
    terminal.progress("")
    return rows


def _log_in(
    daemon: Daemon,
    terminal: Terminal,
    row: Row,
    has_pages: bool,
    open_page: Callable[[str], bool] | None,
    pasted: PastedLines | None,
) -> bool:
    name, url = row["name"], row["loginUrl"]
    opened = open_page is not None and open_page(url)
    if has_pages:
        terminal.say(f"{name}: {'log in in the browser that was opened, or open' if opened else 'open'}", BOLD)
        terminal.data(url)
    if pasted is not None:
        _offer_pasting(daemon, terminal, name)
    until = time.monotonic() + LOGIN_PATIENCE
    while time.monotonic() < until:
        terminal.progress(f"waiting for the login to {name}{'' if pasted is None else '; the address: '}")
        line = _wait_line(pasted)
        if line is not None:
            try:
                daemon.ask("POST", FINISH, {"pasted": line})
            except Refused as exc:
                terminal.say(str(exc), RED)
        rows = daemon.ask("GET", STATUS)["upstreams"]
        state = next((each["state"] for each in rows if each["name"] == name), "gone")
        if state != "needs_login":
            terminal.progress("")
            has_worked = state in ("connected", "connecting")  # the latter: what it offers is being asked for
            terminal.say(f"{name}: {'logged in' if has_worked else _WORDS.get(state, state)}", GREEN)
            return True
    terminal.progress("")
    return False


def _offer_pasting(daemon: Daemon, terminal: Terminal, name: str) -> None:
    try:
        begun = daemon.ask("POST", LOGIN, {"upstream": name})
    except Refused as exc:
        terminal.say(f"{name}: no way to it with a browser elsewhere: {exc}", YELLOW)
        return
    terminal.say(f"{name}: with a browser anywhere else, open the next address, log in, and paste the one it ends at.")
    terminal.say(f"That page does not load; its address begins with {begun['endsAt']}")
    terminal.data(begun["url"])


def _wait_line(pasted: PastedLines | None) -> str | None:
    """A pasted line, if one comes before it is time for another look."""
    if pasted is not None:
        return pasted.wait_line(GLANCE)
    time.sleep(GLANCE)
    return None


def _asked(config: AnyConfig, terminal: Terminal, method: str, path: str, body: Any, option: str) -> Any:
    """What the daemon says; the exit code, with words on stderr, if it says nothing."""
    if not isinstance(config, LocalConfig):
        url = f"{config.issuer_url}/connections"
        terminal.say(f"with 'auth' each person has their own accounts, in the browser: {url}", YELLOW)
        return EX_CONFIG
    try:
        return daemon_of(config).ask(method, path, body)
    except NotRunning as exc:
        terminal.say(f"not running: {exc}; start it with: mcp-aggregator serve{option}", RED)
    except Refused as exc:
        terminal.say(str(exc), RED)
    return EXIT_UNAVAILABLE


def _team_status(config: AnyConfig, terminal: Terminal, *, as_json: bool) -> int:
    """What the configuration says: how upstreams are, each person sees for themselves."""
    rows = [
        {"name": each.name, "state": "configured" if each.enabled else "disabled", "reachedBy": _reached_by(each)}
        for each in config.upstreams
    ]
    if as_json:
        terminal.data(json.dumps({"url": config.issuer_url, "upstreams": rows}, indent=2, ensure_ascii=False))
    else:
        cells = [(row["name"], row["state"], row["reachedBy"]) for row in rows]
        for line, cell in zip(table(cells), cells, strict=True):
            if terminal.is_for_people:
                terminal.data(line)
            else:
                terminal.row(cell)
    terminal.say(
        f"How they are differs by person: {config.issuer_url}/connections in a browser, or the tool gateway__status.\n"
        f"Whether the server is up: {config.issuer_url}/readyz. What they offer without anybody's account:"
        " mcp-aggregator list."
    )
    return 0


def _reached_by(upstream: AnyUpstream) -> str:
    if isinstance(upstream, StdioUpstream):
        return "command " + upstream.command[0]
    return f"{upstream.url} ({upstream.auth_type})"
