"""A registered client's login in a real Chromium: out to its authorization server, back over the port, to our page."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.parts.processes import PATIENCE, free_port
from tests.parts.servers import open_fastmcp_server

from .test_one_account_live import Home, backends, oauth

pytestmark = pytest.mark.live


@contextmanager
def running(home: Home, port: int) -> Iterator[None]:
    """In a thread of its own: playwright blocks the test's."""
    told: queue.Queue[BaseException | None] = queue.Queue()
    stop: list[Any] = []

    async def main() -> None:
        end = trio.Event()
        stop.extend((trio.lowlevel.current_trio_token(), end))
        async with open_fastmcp_server() as endpoint, httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            redirect_uris = [f"http://127.0.0.1:{port}/callback"]
            metadata = {"redirect_uris": redirect_uris, "token_endpoint_auth_method": "none", "scope": "read"}
            client = (await http.post(endpoint.removesuffix("/mcp") + "/register", json=metadata)).json()
            options = {"client_id": client["client_id"], "callback_port": port, "open_browser": False}
            if "client_secret" in client:
                options["client_secret"] = client["client_secret"]
            async with home.serving(backends(home, oauth(endpoint, **options))):
                told.put(None)
                await end.wait()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as exc:
            told.put(exc)
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    failed = told.get(timeout=5 * PATIENCE)
    if failed is not None:
        raise failed
    try:
        yield
    finally:
        token, end = stop
        token.run_sync_soon(end.set)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_the_port_leads_the_browser_that_began_back_to_our_page(tmp_path: Path, page: Any) -> None:
    home, port = Home(tmp_path, free_port()), free_port()
    with running(home, port):
        page.goto(f"{home.url}/connect/mail")
        page.get_by_role("button", name="Connect mail").click()
        page.get_by_label("Name").fill("ada")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="mail is connected").wait_for()
        assert page.url == f"{home.url}/connected/mail"  # the code is gone from the address
        page.goto(f"{home.url}/connections")
        page.get_by_role("button", name="Disconnect").wait_for()
        assert not [problem for problem in page.problems if "Content Security Policy" in problem]
