"""The tools page as a whole: a real server behind, a real identity provider, and a browser's way there."""

from __future__ import annotations

import pytest

from tests.parts.browser import open_browser, walk_login
from tests.parts.servers import open_everything

from .deployment import open_deployment

pytestmark = pytest.mark.live


async def test_a_person_signs_in_and_sees_what_their_clients_may_call() -> None:
    async with (
        open_everything() as everything,
        open_deployment({"everything": everything}) as deployment,
        open_browser() as browser,
    ):
        here = deployment.mcp.removesuffix("/mcp")
        assert await walk_login(f"{here}/tools", f"{here}/tools", "alice", browser=browser) == f"{here}/tools"
        page = (await browser.get(f"{here}/tools?q=echo")).text
        assert "<code>everything__echo</code> from <strong><bdi>everything</bdi></strong>" in page
        assert "Signed in as <bdi>" in page
        navigation = {"accept": "text/html"}
        lost = await browser.get(f"{here}/nothing", headers=navigation)
        assert (lost.status_code, lost.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert lost.headers["x-request-id"] in lost.text
        pasted = await browser.get(deployment.mcp, headers=navigation)
        assert (pasted.status_code, pasted.headers["location"]) == (303, "/")
