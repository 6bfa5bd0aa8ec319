"""Real clients that can show a link are asked to connect an account, and their call completes once the person has."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from tests.parts.browser import Page, open_browser, walk_login
from tests.parts.login import obtain_token
from tests.parts.scripted_clients import Kind, Mode, run_client
from tests.parts.servers import open_fastmcp_server

from .deployment import open_deployment

pytestmark = pytest.mark.live

CLIENTS: list[tuple[Kind, Mode]] = [
    ("python1", "legacy"),  # error -32042
    ("python2", "legacy"),
    ("typescript2", "legacy"),
    ("python2", "2026"),  # `input_required`
    ("typescript2", "2026"),
]


async def connect(link: str, user: str) -> str:
    """What a person does with the link: sign in, press Connect, log in there, come back; the page they end at."""
    async with open_browser() as browser:
        page = await browser.get(await walk_login(link, link, user, browser=browser))
        form = next(form for form in Page(page.text).forms if form.action.endswith("/connect/mail"))
        fields = {name: value for _, name, value in form.fields}
        origin = f"{page.url.scheme}://{page.url.netloc.decode()}"
        going = await browser.post(urljoin(link, form.action), data=fields, headers={"origin": origin})
        away = next(href for href in Page(going.text).links if not href.startswith(("/", origin)))
        answer = await walk_login(away, origin, f"{user}@mail", browser=browser)
        return (await browser.get(answer, follow_redirects=True)).text


@pytest.mark.requirement("UP9", "UP10")
async def test_every_client_that_shows_links_completes_its_call_when_the_person_has_connected() -> None:
    async with open_fastmcp_server() as mail, open_deployment({"mail": mail}) as deployment:
        for number, (kind, mode) in enumerate(CLIENTS):
            user, links = f"person{number}", list[str]()

            async def open_link(link: str, user: str = user, links: list[str] = links) -> None:
                links.append(link)
                assert "mail is connected" in re.sub(r"<[^>]*>", "", await connect(link, user))

            token = await obtain_token(deployment.mcp, user)
            run = await run_client(kind, deployment.mcp, tool="mail__whoami", mode=mode, token=token, on_link=open_link)
            assert links == [f"{deployment.url}/connect/mail"], (kind, mode)
            assert run.protocol == ("2026-07-28" if mode == "2026" else "2025-11-25")
            assert run.result is not None
            assert run.result["content"][0]["text"] == f"{user}@mail", (kind, mode)
            assert not run.result.get("isError")
            assert token not in run.output
