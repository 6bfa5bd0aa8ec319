"""mcpmux's `oauth` backends behind the real process: logged in to once in a browser, remembered, renewed, ended."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx2
import pytest
import trio

from tests.parts.browser import Page, open_browser, walk_login
from tests.parts.processes import LOOK_AGAIN, PATIENCE, Running, free_port, open_process, wait_until
from tests.parts.servers import open_fastmcp_resource, open_fastmcp_server, open_oidc_provider

from .asking import Asking, text_of

pytestmark = pytest.mark.live


@dataclass(frozen=True, slots=True)
class Home:
    """A person's machine: their files, and the browser that notes what it was to show."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def store(self) -> Path:
        return self.folder / "state/mcp-aggregator/local.sqlite"

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "BROWSER": str(self.folder / "browser"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "PYTHONUNBUFFERED": "1",
            "INVOCATION_ID": "",
        }
        return {**os.environ, **own}

    def opened(self) -> list[str]:
        seen = self.folder / "opened"
        return seen.read_text().split() if seen.exists() else []

    @asynccontextmanager
    async def serving(self, config: str) -> AsyncIterator[Running]:
        browser = self.folder / "browser"
        browser.write_text(
            f"#!{sys.executable}\nimport sys\nopen({str(self.folder / 'opened')!r}, 'a').write(sys.argv[1] + '\\n')\n"
        )
        browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
        file = self.folder / "mcpmux.yaml"
        file.write_text(config)
        command = [sys.executable, "-m", "aggregator", "serve", "-c", str(file)]
        async with open_process("serve", command, env=self.environment) as process:
            await process.wait_listening(self.port)
            yield process


async def first_opened(home: Home) -> str:
    """The page that the browser was to show."""
    await wait_until(lambda: bool(home.opened()))
    return home.opened()[0]


def backends(home: Home, *entries: dict[str, Any], **top: Any) -> str:
    """A file of mcpmux; JSON is YAML."""
    listen = {"transport": "http", "address": f"127.0.0.1:{home.port}"}
    return json.dumps({"listen": listen, "backends": list(entries), **top})


def oauth(endpoint: str, name: str = "mail", **options: Any) -> dict[str, Any]:
    return {"name": name, "transport": "http", "endpoint": endpoint, "auth": {"type": "oauth", **options}}


async def press_connect(browser: httpx2.AsyncClient, link: str) -> str:
    """Open the connect link, sign in on the way, press the button: where the browser is led on to."""
    response = await browser.get(link, follow_redirects=True)
    form = next(form for form in Page(response.text).forms if "/connect/" in form.action)
    fields = {name: value for _, name, value in form.fields}
    origin = urlsplit(link)
    headers = {"origin": f"{origin.scheme}://{origin.netloc}", "sec-fetch-site": "same-origin"}
    page = await browser.post(urljoin(link, form.action), data=fields, headers=headers)
    found = re.search(r'content="0;url=([^"]*)"', page.text)
    assert found is not None, page.text
    return unescape(found[1])


async def log_in(link: str, back_to: str, *, user: str = "ada") -> tuple[str, str]:
    """The whole way of a person; the address that the browser came back to, and the last page."""
    async with open_browser() as browser:
        destination = await press_connect(browser, link)
        landed = await walk_login(destination, back_to, user, browser=browser)
        return landed, (await follow(browser, landed)).text


async def follow(browser: httpx2.AsyncClient, url: str) -> httpx2.Response:
    """As a browser does, the header Refresh included."""
    answer = await browser.get(url, follow_redirects=True)
    onward = answer.headers.get("refresh")
    return answer if onward is None else await browser.get(onward.removeprefix("0;url="), follow_redirects=True)


async def asked_until_connected(home: Home, folder: Path) -> str:
    """The state that `status` tells of mail, when it is more than a beginning."""
    state = "connecting"
    with trio.fail_after(PATIENCE):
        while state == "connecting":
            asked = [sys.executable, "-m", "aggregator", "status", "-c", str(folder / "mcpmux.yaml")]
            told = await trio.run_process(
                asked, capture_stdout=True, capture_stderr=True, check=False, env=home.environment
            )
            state = told.stdout.decode().split("\t")[1]
    return state


async def whoami(home: Home) -> dict[str, Any]:
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        return await Asking(f"{home.url}/mcp", "nothing", http).call("mail__whoami")


async def wait_closed(port: int) -> None:
    """Until nobody listens there."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                return
            await stream.aclose()
            await trio.sleep(LOOK_AGAIN)


def issued(endpoint: str) -> dict[str, int]:
    found: dict[str, int] = httpx2.get(
        endpoint.removesuffix("/mcp") + "/people", trust_env=False, timeout=PATIENCE
    ).json()
    return found


async def test_one_login_outlives_the_process_is_renewed_and_can_be_ended(tmp_path: Path) -> None:
    home = Home(tmp_path, free_port())
    async with open_fastmcp_server(access_seconds=90) as endpoint:
        config = backends(home, oauth(endpoint, client_name="Ada's laptop", scopes=["read"]))
        async with home.serving(config) as process:
            link = await first_opened(home)
            assert link == f"{home.url}/connect/mail", "an address that names an upstream, and nothing else"
            asked = await whoami(home)
            assert f"{home.url}/connect/mail" in text_of(asked)
            _, page = await log_in(link, f"{home.url}/upstream-auth/callback/mail")
            assert "onnected" in page
            assert text_of(await whoami(home)) == "ada"
            process.process.send_signal(signal.SIGKILL)
            await process.process.wait()
        assert stat.S_IMODE(home.store.stat().st_mode) == 0o600
        with sqlite3.connect(home.store) as database:
            (stored,) = database.execute("select access_token from connections").fetchone()
        database.close()
        told = httpx2.post(
            endpoint, headers={"authorization": f"Bearer {stored}"}, json={}, trust_env=False, timeout=PATIENCE
        )
        assert told.status_code == 401, "what stands in the file is no token, but one that our key opens"
        async with home.serving(config):
            assert text_of(await whoami(home)) == "ada"
            assert issued(endpoint)["code"] == 1
            await trio.sleep(3)
            assert len(home.opened()) == 1, "it asks nobody who is logged in"
            await end_connection(home)
            assert issued(endpoint)["revoked"] >= 1
            assert f"{home.url}/connect/mail" in text_of(await whoami(home))


async def end_connection(home: Home) -> None:
    async with open_browser() as browser:
        page = Page((await browser.get(f"{home.url}/connections", follow_redirects=True)).text)
        form = next(form for form in page.forms if form.action.endswith("/connections/disconnect"))
        fields = {name: value for _, name, value in form.fields}
        headers = {"origin": home.url, "sec-fetch-site": "same-origin"}
        answer = await browser.post(f"{home.url}/connections/disconnect", data=fields, headers=headers)
        assert answer.status_code == 303


async def test_a_token_near_its_end_is_renewed_after_a_restart_without_anybody(tmp_path: Path) -> None:
    home = Home(tmp_path, free_port())
    async with open_fastmcp_server(access_seconds=4) as endpoint:
        config = backends(home, oauth(endpoint, open_browser=False))
        async with home.serving(config) as process:
            found = await process.wait_output(r"waits for its login: (\S+)")
            assert found[1] == f"{home.url}/connect/mail"
            await log_in(found[1], f"{home.url}/upstream-auth/callback/mail")
            assert text_of(await whoami(home)) == "ada"
        assert home.opened() == []
        await trio.sleep(4)
        async with home.serving(config):
            assert text_of(await whoami(home)) == "ada"
            assert issued(endpoint)["refresh"] >= 1
            assert issued(endpoint)["code"] == 1


async def test_a_server_that_says_who_answers_is_logged_in_to_once(tmp_path: Path) -> None:
    home = Home(tmp_path, free_port())
    async with (
        open_oidc_provider(resources=True, refresh_tokens=True) as issuer,
        open_fastmcp_resource(issuer) as endpoint,
    ):
        config = backends(home, oauth(endpoint, open_browser=False))
        async with home.serving(config) as process:
            link = (await process.wait_output(r"waits for its login: (\S+)"))[1]
            landed, page = await log_in(link, f"{home.url}/upstream-auth/callback/mail")
            assert "iss=" in landed
            assert "mail is connected" in page
        async with home.serving(config), httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            asking = Asking(f"{home.url}/mcp", "nothing", http)
            with trio.fail_after(PATIENCE):
                while "mail__whoami" not in await asking.tools():  # noqa: ASYNC110 - a list waits a moment only
                    await trio.sleep(LOOK_AGAIN)


async def test_a_registered_client_comes_back_to_its_port_which_is_open_for_that_alone(tmp_path: Path) -> None:
    home, port = Home(tmp_path, free_port()), free_port()
    back = f"http://127.0.0.1:{port}/callback"
    async with open_fastmcp_server() as endpoint, httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        metadata = {"redirect_uris": [back], "token_endpoint_auth_method": "client_secret_post", "scope": "read"}
        client = (await http.post(endpoint.removesuffix("/mcp") + "/register", json=metadata)).json()
        printer = tmp_path / "secret"
        printer.write_text(f"#!/bin/sh\necho '{client['client_secret']}'\n")
        printer.chmod(0o700)
        options = {"client_id": client["client_id"], "client_secret_command": [str(printer)], "callback_port": port}
        async with home.serving(backends(home, oauth(endpoint, **options), oauth(endpoint, "more", **options))):
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream("127.0.0.1", port)
            landed, page = await log_in(f"{home.url}/connect/mail", back)
            assert landed.startswith(f"{back}?")
            assert "onnected" in page
            assert text_of(await whoami(home)) == "ada"
            await wait_closed(port)


async def test_a_browser_on_another_machine_will_do_whose_last_address_is_pasted(tmp_path: Path) -> None:
    home = Home(tmp_path, free_port())
    async with open_fastmcp_server() as endpoint:
        config = backends(home, oauth(endpoint, open_browser=False))
        async with home.serving(config) as process:
            await process.wait_output(r"waits for its login")
            command = [sys.executable, "-m", "aggregator", "login", "--no-browser", "-c", str(tmp_path / "mcpmux.yaml")]
            asking = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=home.environment
            )
            assert asking.stdin is not None
            assert asking.stdout is not None
            with trio.fail_after(PATIENCE):
                said = b""
                while said.count(b"\n") < 2:
                    said += await asking.stdout.receive_some()
                link, elsewhere = said.decode().split()
                assert link == f"{home.url}/connect/mail"
                landed = await walk_login(elsewhere, f"{home.url}/upstream-auth/callback/mail", "ada")
                await asking.stdin.send_all(b"http://localhost/wrong?code=x\n")
                await asking.stdin.send_all(landed.encode() + b"\n")
                assert await asking.wait() == 0
            await asking.stdin.aclose()
            await asking.stdout.aclose()
            assert await asked_until_connected(home, tmp_path) == "connected", "nobody else asked for its tools"
            assert text_of(await whoami(home)) == "ada"
            assert issued(endpoint)["code"] == 1


async def test_an_answer_that_another_browser_brings_connects_nothing(tmp_path: Path) -> None:
    home, port = Home(tmp_path, free_port()), free_port()
    back = f"http://127.0.0.1:{port}/callback"
    async with open_fastmcp_server() as endpoint:
        config = backends(home, oauth(endpoint, callback_port=port, open_browser=False))
        async with home.serving(config), open_browser() as mine, open_browser() as other:
            destination = await press_connect(mine, f"{home.url}/connect/mail")
            landed = await walk_login(destination, back, "mallory", browser=other)
            refused = await follow(other, landed)
            assert "begun in another browser" in refused.text
            parts = dict(parse_qsl(urlsplit(landed).query))
            wrong = await mine.get(f"{back}?{urlencode(parts | {'state': 'x' * 32})}", follow_redirects=True)
            assert wrong.status_code == 400
            assert issued(endpoint)["code"] == 0
