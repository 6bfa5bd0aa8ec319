"""What an operator may say of the one account's login: our name, the scopes, who the server says it is, who we are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aggregator.config.model import Account, BrowserLogin, Upstream
from aggregator.errors import ConnectFailed, Refusal
from aggregator.protocol.brokering import Beginning, IssuedTokens, Postponed
from aggregator.store import Store
from aggregator.store.memory import open_memory_store
from aggregator.upstream.network.learned_http import Answer
from aggregator.upstream.oauth.client import OAuthClient
from aggregator.upstream.oauth.client_programs import ClientPrograms

from ...fakes.child import FakeChild, FakeStarts
from ..oauth.world import CALLBACK, ISSUER, MCP, World, answer, client_of, usual_world

SERVER = f"{ISSUER}/.well-known/oauth-authorization-server"


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_memory_store(clock=lambda: 1000.0) as opened:
        yield opened


@pytest.fixture
def world() -> World:
    return usual_world()


def logged_in_to(account: Account = Account(), **options: Any) -> Upstream:  # noqa: B008  a frozen value
    return Upstream("mail", MCP, "mail", auth_type="oauth", account=account, browser_login=BrowserLogin(**options))


async def begin(client: OAuthClient, upstream: Upstream, **changes: Any) -> Beginning:
    parameters = {"challenge": "", "wanted_scope": None, "state": "s", "redirect_uri": CALLBACK} | changes
    return await client.begin(upstream, **parameters)


def printing(*texts: bytes, code: int = 0) -> FakeStarts:
    """Programs that print the next of `texts` each."""
    left = list(texts)

    async def script(child: FakeChild) -> None:
        await child.write(left.pop(0) if len(left) > 1 else left[0])
        child.exit(code)

    return FakeStarts(script)


def client_with(world: World, store: Store, upstream: Upstream, starts: FakeStarts) -> OAuthClient:
    return client_of(world, store, upstream, programs=ClientPrograms(starts))


def say_another_name(world: World) -> None:
    world.publish_server()
    found = world.places[SERVER]
    assert isinstance(found, Answer)
    world.places[SERVER] = answer(json.loads(found.body) | {"issuer": "https://login.example"})


async def test_the_server_knows_us_by_the_configured_name(world: World, store: Store) -> None:
    upstream = logged_in_to(client_name="Ada's laptop")
    await begin(client_of(world, store, upstream), upstream)
    assert [each.content["client_name"] for each in world.asked if each.content] == ["Ada's laptop"]


async def test_of_the_scopes_offered_those_allowed_are_asked_for_and_registered(world: World, store: Store) -> None:
    world.publish_resource(scopes_supported=["read", "write", "admin"])
    upstream = logged_in_to(scope_filter=("write", "read", "other"))
    beginning = await begin(client_of(world, store, upstream), upstream)
    assert beginning.scope == "read write"
    assert [each.content["scope"] for each in world.asked if each.content] == ["read write"]


async def test_a_server_of_another_name_is_taken_where_that_is_allowed(world: World, store: Store) -> None:
    say_another_name(world)
    strict, lax = logged_in_to(), logged_in_to(allow_issuer_mismatch=True)
    with pytest.raises(ConnectFailed, match="speaks for"):
        await begin(client_of(world, store, strict), strict)
    client = client_of(world, store, lax)
    beginning = await begin(client, lax)
    assert (beginning.issuer, beginning.answers_as) == (ISSUER, "https://login.example")
    client.check_answer(beginning, {"code": "c", "iss": "https://login.example"})
    for other in (ISSUER, "https://evil.example"):
        with pytest.raises(Refusal):
            client.check_answer(beginning, {"code": "c", "iss": other})


async def test_a_login_at_a_server_of_another_name_is_renewed_there(world: World, store: Store) -> None:
    say_another_name(world)
    upstream = logged_in_to(allow_issuer_mismatch=True)
    client = client_of(world, store, upstream)
    renewed = await client.refresh(
        upstream, issuer=ISSUER, client_id="c1", resource=MCP, scope=None, refresh_token="rt"
    )
    assert isinstance(renewed, IssuedTokens)


async def test_programs_print_who_we_are_once_for_login_code_and_refresh(world: World, store: Store) -> None:
    world.publish_server(token_endpoint_auth_methods_supported=["client_secret_post"])
    upstream = logged_in_to(client_id_command=("pass", "id"), client_secret_command=("pass", "secret"))
    starts = printing(b"our-id\n", b"our-secret\n")
    client = client_with(world, store, upstream, starts)
    beginning = await begin(client, upstream)
    assert beginning.client_id == "our-id"
    assert f"{ISSUER}/register" not in world.urls()
    await client.redeem(beginning, "code")
    assert (world.last_form()["client_id"], world.last_form()["client_secret"]) == ("our-id", "our-secret")
    await client.refresh(upstream, issuer=ISSUER, client_id="our-id", resource=MCP, scope=None, refresh_token="rt")
    assert world.last_form()["client_secret"] == "our-secret"
    assert len(starts.at) == 2


async def test_one_printed_id_needs_no_secret(world: World, store: Store) -> None:
    upstream = logged_in_to(client_id_command=("pass", "id"))
    assert (await begin(client_with(world, store, upstream, printing(b"our-id")), upstream)).client_id == "our-id"


async def test_a_program_that_fails_is_told_and_nothing_of_its_output(world: World, store: Store) -> None:
    upstream = logged_in_to(client_id_command=("/opt/bin/pass", "id"))
    client = client_with(world, store, upstream, printing(b"hunter2", code=3))
    with pytest.raises(ConnectFailed, match=r"the program pass, .* failed with exit code 3") as caught:
        await begin(client, upstream)
    assert "hunter2" not in str(caught.value)
    asked: dict[str, Any] = {
        "issuer": ISSUER,
        "client_id": "our-id",
        "resource": MCP,
        "scope": None,
        "refresh_token": "rt",
    }
    assert isinstance(await client.refresh(upstream, **asked), Postponed)
    assert await client.revoke(upstream, issuer=ISSUER, client_id="our-id", token="rt", hint="refresh_token") is False


async def test_a_client_that_is_refused_is_printed_anew(world: World, store: Store) -> None:
    world.publish_server(token_endpoint_auth_methods_supported=["client_secret_post"])
    upstream = logged_in_to(Account(client_id="our-id"), client_secret_command=("pass", "secret"))
    starts = printing(b"old", b"new")
    client = client_with(world, store, upstream, starts)
    asked: dict[str, Any] = {
        "issuer": ISSUER,
        "client_id": "our-id",
        "resource": MCP,
        "scope": None,
        "refresh_token": "rt",
    }
    world.places[f"{ISSUER}/token"] = answer({"error": "invalid_client"}, 401)
    assert isinstance(await client.refresh(upstream, **asked), Postponed)
    world.issue()
    assert isinstance(await client.refresh(upstream, **asked), IssuedTokens)
    assert world.last_form()["client_secret"] == "new"
