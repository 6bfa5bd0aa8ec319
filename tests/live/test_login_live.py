"""Logins as operators configure them: a provider that comes late, the predecessor's example, two names of one host."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import trio

from tests.parts.browser import walk_login
from tests.parts.login import log_in
from tests.parts.processes import PATIENCE, ProcessFailed, free_port
from tests.parts.scripted_clients import Kind, run_client
from tests.parts.servers import BASIC, CLIENT_SECRET, POST, open_oidc_provider, open_python_server

from .asking import Asking, bearer_for, text_of
from .own_process import configuration, open_own_process

pytestmark = pytest.mark.live


@pytest.mark.requirement("AF7")
async def test_a_provider_that_is_down_at_start_is_waited_for() -> None:
    port, provider_port = free_port(), free_port()
    issuer = f"http://127.0.0.1:{provider_port}"
    async with AsyncExitStack() as stack:
        python = await stack.enter_async_context(open_python_server())
        config = configuration(issuer, port, {"python": python})
        process = await stack.enter_async_context(open_own_process("serve", config))
        said = await process.wait_output(r"identity provider \S+ is not available: .*")
        assert f"{issuer}/.well-known/openid-configuration cannot be reached: Connection refused" in said[0]
        assert "Nobody can log in until it is; tokens already issued keep working; trying again" in said[0]

        pages: list[str] = []
        http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=PATIENCE))
        with pytest.raises(AssertionError, match="503"):  # LoginStuck, at the page
            await log_in(http, f"http://127.0.0.1:{port}/mcp", browser=await stack.enter_async_context(watching(pages)))
        assert issuer in pages[-1]
        assert "cannot be reached" in pages[-1]
        assert "Wait half a minute and reload this page" in pages[-1]
        assert (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        let_in_before = Asking(f"http://127.0.0.1:{port}/mcp", bearer_for(f"http://127.0.0.1:{port}"), http)
        assert text_of(await let_in_before.call("gateway__status"))

        await stack.enter_async_context(open_oidc_provider(f"http://127.0.0.1:{port}/callback", port=provider_port))
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    logged_in = await log_in(http, f"http://127.0.0.1:{port}/mcp")
                    break
                except AssertionError:
                    await trio.sleep(0.5)
        await process.wait_output(r"identity provider \S+ is available again")
        asking = Asking(f"http://127.0.0.1:{port}/mcp", logged_in.tokens["access_token"], http)
        assert text_of(await asking.call("python__echo", message="in")) == "Echo: in"


# The predecessor's example with values that exist here: keys of `auth`, whether the provider takes the secret by post
# only, and what stands behind the issuer.
SECRET_OF = {"clientSecret": CLIENT_SECRET}
EXAMPLES: dict[str, tuple[dict[str, Any], bool, str]] = {
    "basic": ({"clientId": BASIC, "scopes": ["openid"], "userClaim": "sub", **SECRET_OF}, False, ""),
    "post": ({"clientId": POST, "scopes": ["openid"], "userClaim": "sub", **SECRET_OF}, True, ""),
    "slash": ({"clientId": BASIC, **SECRET_OF}, False, "/"),
    "name": ({"clientId": BASIC, "scopes": ["openid", "profile"], "userClaim": "name", **SECRET_OF}, False, ""),
    "email": ({"clientId": BASIC, "scopes": ["openid", "email"], "userClaim": "email", **SECRET_OF}, False, ""),
    "least": ({}, False, ""),
}


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_predecessors_configuration_logs_in(name: str) -> None:
    auth, post_only, slash = EXAMPLES[name]
    port = free_port()
    async with AsyncExitStack() as stack:
        default = {"client_id": "mcp-aggregator", "token_endpoint_auth_method": "none"}
        issuer = await stack.enter_async_context(
            open_oidc_provider(
                f"http://127.0.0.1:{port}/callback", path="/realms/test", post_only=post_only, clients=[default]
            )
        )
        nowhere = {"gmail": "http://127.0.0.1:9/mcp"}
        config = configuration(issuer, port, nowhere, discoveryTimeout=5000, toolTimeout=60000)
        config |= {"auth": {"issuer": issuer + slash, **auth}, "secret": "some-persistent-secret"}
        process = await stack.enter_async_context(open_own_process("serve", config))
        http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=PATIENCE))
        logged_in = await log_in(http, f"http://127.0.0.1:{port}/mcp")
        asking = Asking(f"http://127.0.0.1:{port}/mcp", logged_in.tokens["access_token"], http)
        assert list(await asking.status()) == ["gmail"]
        assert "mcp-aggregator secret new" in process.output()  # the example's secret is a passphrase


def watching(pages: list[str]) -> httpx2.AsyncClient:
    """A browser that keeps what it was shown."""

    async def keep(answer: httpx2.Response) -> None:
        pages.append((await answer.aread()).decode())

    return httpx2.AsyncClient(trust_env=False, timeout=PATIENCE, event_hooks={"response": [keep]})


async def test_the_url_in_use_is_the_one_that_clients_are_told_about() -> None:
    """Without `issuerUrl` that is localhost; a client that was given 127.0.0.1 names both, and nobody has logged in."""
    port = free_port()
    kinds: tuple[Kind, ...] = ("python1", "python2", "typescript1", "typescript2", "mcp-remote")
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(open_oidc_provider(f"http://localhost:{port}/callback"))
        python = await stack.enter_async_context(open_python_server())
        config = configuration(issuer, port, {"python": python})
        del config["issuerUrl"]
        process = await stack.enter_async_context(open_own_process("serve", config))
        await process.wait_output(f"MCP endpoint http://localhost:{port}/mcp on http://127.0.0.1:{port}")
        run = await run_client(
            "python2", f"http://localhost:{port}/mcp", tool="python__echo", arguments={"message": ""}
        )
        assert run.authorized
        # A browser that comes by the other name is led to this one before its login begins: its cookies are kept there.
        landed = await walk_login(f"http://127.0.0.1:{port}/sign-in?to=/clients", f"http://localhost:{port}/clients")
        assert landed == f"http://localhost:{port}/clients"
        for kind in kinds:
            with pytest.raises(ProcessFailed) as failed:
                await run_client(kind, f"http://127.0.0.1:{port}/mcp")
            assert f"Protected resource http://localhost:{port}/mcp" in str(failed.value), kind
            assert f"does not match expected http://127.0.0.1:{port}/mcp" in str(failed.value), kind
