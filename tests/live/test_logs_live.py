"""A login and calls, everything logged that can be: no token, code, cookie or state in it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest

from tests.parts.processes import PATIENCE, free_port
from tests.parts.scripted_clients import run_client
from tests.parts.servers import open_everything, open_oidc_provider

from .own_process import WAYS, Way, configuration, open_own_process

pytestmark = pytest.mark.live

# Everything that Hypercorn's access log can be told to tell.
CURIOUS = '%(R)s %(q)s %({authorization}i)s %({cookie}i)s %({set-cookie}o)s "%(f)s" %({location}o)s'
FLAGS: dict[Way, tuple[str, ...]] = {
    "serve": ("--log-level", "debug"),
    "command": ("--log-level", "debug", "--access-logfile", "-", "--access-logformat", CURIOUS),
}
_SECRET = re.compile(r"mcpa_|eyJ|canary|[?&](?:code|state)=(?!\[redacted\])\S", re.IGNORECASE)


@pytest.mark.parametrize("way", WAYS)
async def test_the_log_of_a_login_and_a_call_holds_no_secret(way: Way, tmp_path: Path) -> None:
    port = free_port()
    async with open_everything() as everything, open_oidc_provider(f"http://127.0.0.1:{port}/callback") as issuer:
        config = configuration(issuer, port, {"everything": everything})
        async with open_own_process(way, config, *FLAGS[way]) as process:
            run = await run_client(
                "python2",
                f"http://127.0.0.1:{port}/mcp",
                tool="everything__echo",
                arguments={"message": "hi"},
                state=tmp_path / "state",
            )
            assert run.authorized
            async with httpx2.AsyncClient(
                trust_env=False, base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE
            ) as http:
                headers = {
                    "authorization": "Bearer mcpa_at_canary",
                    "cookie": "a=canary",
                    "referer": "http://x/?code=canary",
                }
                for path in ("/mcp", "/callback?code=canary&state=canary", "/authorize?state=canary", "/token"):
                    await http.get(path, headers=headers)
            log = process.output()
            assert "upstream" in log or way == "command"
            if way == "command":
                assert "GET" in log or "/callback" in log
                assert "[redacted]" in log
            assert not _SECRET.search(log), _SECRET.search(log)
