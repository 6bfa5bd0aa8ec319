"""Codes, refresh tokens and their ends: what goes to which server, and what comes of its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from aggregator.config.model import Secret, Upstream
from aggregator.errors import ConnectFailed, Refusal
from aggregator.protocol.brokering import Beginning, Ended, IssuedTokens, Postponed
from aggregator.store import Store
from aggregator.store.memory import open_memory_store
from aggregator.upstream.network.learned_http import Answer
from aggregator.upstream.oauth.client import LABEL_WITHIN, REVOKE_WITHIN, OAuthClient
from aggregator.upstream.oauth.discovery import KEPT_FOR, PAUSE

from .world import CALLBACK, ISSUER, MCP, PRM, Asked, World, answer, client_of, mail, usual_world

SERVER = "https://as.example/.well-known/oauth-authorization-server"
TOKEN = "https://as.example/token"


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_memory_store(clock=lambda: 1000.0) as opened:
        yield opened


@pytest.fixture
def world() -> World:
    return usual_world()


async def begin(client: OAuthClient, upstream: Upstream | None = None, **changes: Any) -> Beginning:
    parameters = {"challenge": "", "wanted_scope": None, "state": "s", "redirect_uri": CALLBACK} | changes
    return await client.begin(upstream or mail(), **parameters)


async def refresh(
    client: OAuthClient, upstream: Upstream | None = None, **changes: Any
) -> IssuedTokens | Ended | Postponed:
    parameters: dict[str, Any] = {
        "issuer": ISSUER,
        "client_id": "c1",
        "resource": MCP,
        "scope": "read",
        "refresh_token": "r0",
    } | changes
    return await client.refresh(upstream or mail(), **parameters)


@pytest.mark.requirement("UP3")
async def test_a_code_becomes_tokens(world: World, store: Store) -> None:
    client = client_of(world, store)
    beginning = await begin(client)
    client.check_answer(beginning, {"code": "x", "state": "s"})
    assert await client.redeem(beginning, "x") == IssuedTokens("at", "rt", "Bearer", None, 3600.0)
    assert world.last_form() == {
        "client_id": "c1",
        "grant_type": "authorization_code",
        "code": "x",
        "redirect_uri": CALLBACK,
        "code_verifier": beginning.verifier,
        "resource": MCP,
    }


@pytest.mark.requirement("UP4", "AF24")
async def test_a_code_goes_to_the_recorded_endpoint_whatever_the_metadata_says_by_now(
    world: World, store: Store
) -> None:
    """F24: the document changes between start and callback."""
    beginning = await begin(client_of(world, store))
    world.publish_server(token_endpoint="https://as.example/token2")
    world.publish_resource(authorization_servers=["https://evil.example"])
    await client_of(world, store).redeem(beginning, "x")
    assert [each.url for each in world.asked if "code" in each.form] == [TOKEN]


@pytest.mark.requirement("UP4")
async def test_an_answer_of_another_server_is_not_believed(world: World, store: Store) -> None:
    world.publish_server(authorization_response_iss_parameter_supported=True)
    client = client_of(world, store)
    beginning = await begin(client)
    client.check_answer(beginning, {"code": "x", "iss": ISSUER})
    for parameters in (
        {"code": "x"},
        {"code": "x", "iss": ISSUER + "/"},
        {"error": "e", "iss": "https://evil.example"},
    ):
        with pytest.raises(Refusal):
            client.check_answer(beginning, parameters)


@pytest.mark.requirement("UP7", "UP8")
async def test_a_recorded_endpoint_must_still_be_within_reach(world: World, store: Store) -> None:
    beginning = replace(await begin(client_of(world, store)), token_endpoint="http://10.0.0.1/token")
    with pytest.raises(ConnectFailed, match="does not go to"):
        await client_of(world, store).redeem(beginning, "x")
    assert "http://10.0.0.1/token" not in world.urls()


@pytest.mark.parametrize(
    ("said", "words", "temporary"),
    [
        (answer({"error": "invalid_grant"}, 400), "does not accept this login; begin again", False),
        (answer(b"", 503), "busy or broken", True),
        (answer(b"<html>", 200, content_type="text/html"), "no tokens", True),
        (answer({"error": "invalid_client"}, 401), "registers anew", True),
    ],
)
async def test_a_code_that_gives_no_tokens_says_what_to_do(
    world: World, store: Store, said: Answer, words: str, temporary: bool
) -> None:
    client = client_of(world, store)
    beginning = await begin(client)
    world.places[TOKEN] = said
    with pytest.raises(ConnectFailed, match=words) as caught:
        await client.redeem(beginning, "x")
    assert caught.value.temporary is temporary
    assert beginning.verifier not in str(caught.value)


async def test_a_client_that_the_server_forgot_registers_again(world: World, store: Store) -> None:
    client = client_of(world, store)
    beginning = await begin(client)
    world.places[TOKEN] = answer({"error": "invalid_client"}, 401)
    with pytest.raises(ConnectFailed):
        await client.redeem(beginning, "x")
    world.issue()
    again = await begin(client)
    assert again.client_id == "c2"
    assert (await client.redeem(again, "y")).access_token == "at"


@pytest.mark.parametrize(
    ("methods", "header", "form"),
    [
        (["client_secret_basic"], "Basic b3VyczpzM2NyZXQ=", None),
        (["client_secret_post"], None, "s3cret"),
        (..., "Basic b3VyczpzM2NyZXQ=", None),
    ],
)
async def test_a_configured_client_shows_its_secret_as_the_server_wants(
    world: World, store: Store, methods: Any, header: str | None, form: str | None
) -> None:
    world.publish_server(token_endpoint_auth_methods_supported=methods)
    upstream = mail(client_id="ours", client_secret=Secret("s3cret"))
    client = client_of(world, store, upstream)
    await client.redeem(await begin(client, upstream), "x")
    asked = world.asked[-1]
    assert (asked.headers.get("authorization"), asked.form.get("client_secret")) == (header, form)
    world.places[TOKEN] = answer({"error": "invalid_client"}, 401)
    with pytest.raises(ConnectFailed, match="'clientSecret'") as caught:
        await client.redeem(await begin(client, upstream), "x")
    assert "s3cret" not in str(caught.value)
    assert isinstance(await refresh(client, upstream, client_id="ours"), Postponed)


async def test_a_registered_secret_goes_by_the_method_of_the_registration(world: World, store: Store) -> None:
    world.publish_server(token_endpoint_auth_methods_supported=["client_secret_post", "client_secret_basic"])
    world.register_clients(client_secret="s", token_endpoint_auth_method="client_secret_basic")
    client = client_of(world, store)
    await client.redeem(await begin(client), "x")
    assert world.asked[-1].headers["authorization"].startswith("Basic ")
    assert "client_secret" not in world.asked[-1].form


@pytest.mark.requirement("UP5")
async def test_a_registration_made_anew_leaves_the_connections_of_the_one_before_as_they_are(
    world: World, store: Store
) -> None:
    """A refresh token is bound to its client (RFC 6749 6): an upstream that lists another scope logs nobody out."""
    world.publish_server(token_endpoint_auth_methods_supported=["client_secret_post"])
    world.register_clients(client_secret="s1")
    client = client_of(world, store)
    await begin(client)
    world.publish_resource(scopes_supported=["more"])
    world.register_clients(client_id="c2", client_secret="s2")
    assert (await begin(client)).client_id == "c2"
    for client_id, secret in (("c1", "s1"), ("c2", "s2"), ("c3", None)):
        await refresh(client, client_id=client_id)
        assert (world.last_form()["client_id"], world.last_form().get("client_secret")) == (client_id, secret)
    assert await client.revoke(mail(), issuer=ISSUER, client_id="c1", token="r0", hint="refresh_token") is False
    assert world.last_form()["client_secret"] == "s1"
    world.places[TOKEN] = answer({"error": "invalid_client"}, 401)
    assert isinstance(await refresh(client, client_id="c1"), Ended)
    await refresh(client, client_id="c1")
    assert "client_secret" not in world.last_form()  # it is forgotten
    assert (await begin(client)).client_id == "c2"


@pytest.mark.requirement("UP3", "UP5")
async def test_a_refresh_token_goes_to_the_server_that_gave_it(world: World, store: Store) -> None:
    client = client_of(world, store)
    world.publish_resource(authorization_servers=["https://evil.example"])
    assert await refresh(client) == IssuedTokens("at", "rt", "Bearer", "read", 3600.0)
    assert world.urls() == [SERVER, TOKEN]
    assert world.last_form() == {
        "client_id": "c1",
        "grant_type": "refresh_token",
        "refresh_token": "r0",
        "resource": MCP,
    }
    for changes in ({"resource": None}, {"upstream": mail(send_resource=False)}):
        await refresh(client, **changes)
        assert "resource" not in world.last_form()


@pytest.mark.requirement("UP5", "AF24")
async def test_a_refresh_token_goes_nowhere_when_somebody_else_answers_for_its_issuer(
    world: World, store: Store
) -> None:
    """F24: the metadata changes its issuer between refreshes."""
    world.publish_server("https://evil.example", SERVER)
    assert isinstance(await refresh(client_of(world, store)), Ended)
    assert not [each for each in world.asked if "r0" in each.form.values()]


@pytest.mark.requirement("UP5", "AF24")
async def test_a_refresh_token_goes_nowhere_when_the_operator_names_another_server(world: World, store: Store) -> None:
    client = client_of(world, store)
    assert isinstance(await refresh(client, mail(authorization_server="https://new.example")), Ended)
    assert isinstance(await refresh(client, issuer=""), Ended)  # a row of the predecessor's
    assert not await client.revoke(mail(), issuer="", client_id="c1", token="r0", hint="refresh_token")
    assert world.asked == []


async def test_a_moved_token_endpoint_of_the_same_issuer_is_followed(world: World, store: Store) -> None:
    world.publish_server(token_endpoint="https://as.example/token2")
    world.places["https://as.example/token2"] = world.places[TOKEN]
    assert isinstance(await refresh(client_of(world, store)), IssuedTokens)


@pytest.mark.parametrize(
    "trouble", [answer(b"", 429, retry_after="7"), answer(b"", 503), answer(b"<html>", 502, content_type="text/html")]
)
@pytest.mark.parametrize("place", [SERVER, TOKEN])
async def test_trouble_of_the_server_ends_nothing(world: World, store: Store, place: str, trouble: Answer) -> None:
    world.places[place] = trouble
    outcome = await refresh(client_of(world, store))
    assert isinstance(outcome, Postponed)
    if place == TOKEN and trouble.status == 429:
        assert outcome.retry_after == 7.0


@pytest.mark.parametrize("issuer", [ISSUER, "https://mcp.example"])
async def test_a_server_that_cannot_be_reached_ends_nothing(world: World, store: Store, issuer: str) -> None:
    world.unreachable |= {"as.example", "mcp.example"}
    assert isinstance(await refresh(client_of(world, store), issuer=issuer), Postponed)


async def test_a_server_whose_metadata_is_gone_ends_nothing(world: World, store: Store) -> None:
    del world.places[SERVER]
    assert isinstance(await refresh(client_of(world, store)), Postponed)


async def test_a_refused_grant_ends_the_connection(world: World, store: Store) -> None:
    world.places[TOKEN] = answer({"error": "invalid_grant"}, 400)
    assert isinstance(await refresh(client_of(world, store)), Ended)


@pytest.mark.requirement("UP5")
async def test_a_client_that_the_server_forgot_ends_its_connections_and_the_next_login_registers(
    world: World, store: Store
) -> None:
    client = client_of(world, store)
    beginning = await begin(client)
    world.places[TOKEN] = answer({"error": "invalid_client"}, 401)
    assert isinstance(await refresh(client, client_id=beginning.client_id, patient=True), Postponed)
    assert await store.find_registration("mail", ISSUER) is not None
    assert isinstance(await refresh(client, client_id=beginning.client_id), Ended)
    assert await store.find_registration("mail", ISSUER) is None
    assert (await begin(client)).client_id == "c2"
    assert isinstance(await refresh(client, client_id="c1"), Ended)  # a connection of the first client
    assert await store.find_registration("mail", ISSUER) is not None  # which is no reason to forget the second


async def test_our_document_being_refused_is_the_servers_trouble(world: World, store: Store) -> None:
    world.publish_server(client_id_metadata_document_supported=True)
    client = client_of(world, store, issuer_url="https://agg.example")
    beginning = await begin(client)
    world.places[TOKEN] = answer({"error": "invalid_client"}, 401)
    assert isinstance(await refresh(client, client_id=beginning.client_id), Postponed)


async def test_a_token_is_revoked_where_it_came_from(world: World, store: Store) -> None:
    world.places["https://as.example/revoke"] = answer(b"")
    client = client_of(world, store)
    parameters: dict[str, Any] = {"issuer": ISSUER, "client_id": "c1", "token": "r0", "hint": "refresh_token"}
    assert await client.revoke(mail(), **parameters)
    assert world.last_form() == {"client_id": "c1", "token": "r0", "token_type_hint": "refresh_token"}
    world.places["https://as.example/revoke"] = answer(b"", 503)
    assert not await client.revoke(mail(), **parameters)
    world.unreachable.add("as.example")
    assert not await client.revoke(mail(), **parameters)


async def test_a_server_without_revocation_is_not_asked(world: World, store: Store) -> None:
    world.publish_server(revocation_endpoint=...)
    client = client_of(world, store)
    assert not await client.revoke(mail(), issuer=ISSUER, client_id="c1", token="r0", hint="refresh_token")
    assert world.urls("POST") == []


async def hang(asked: Asked) -> Answer:
    await trio.sleep_forever()


async def test_revoking_takes_a_bounded_time(
    world: World, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    world.places["https://as.example/revoke"] = hang
    started = trio.current_time()
    revoked = await client_of(world, store).revoke(
        mail(), issuer=ISSUER, client_id="c1", token="r0", hint="refresh_token"
    )
    assert (revoked, trio.current_time() - started) == (False, REVOKE_WITHIN)


USERINFO = "https://as.example/userinfo"


async def test_the_account_is_named_where_the_server_tells(world: World, store: Store) -> None:
    world.publish_server(userinfo_endpoint=USERINFO)
    world.publish_resource(scopes_supported=["read", "email"])
    world.places[USERINFO] = answer({"sub": "1", "email": "ada@example.com"})
    client = client_of(world, store)
    assert (await client.redeem(await begin(client), "x")).account == "ada@example.com"
    assert world.asked[-1].headers["authorization"] == "Bearer at"


@pytest.mark.parametrize("trouble", [answer(b"", 500), answer(b"<html>"), hang])
async def test_an_account_without_a_name_is_connected_all_the_same(
    world: World, store: Store, trouble: Any, autojump_clock: trio.testing.MockClock
) -> None:
    world.publish_server(userinfo_endpoint=USERINFO)
    world.publish_resource(scopes_supported=["openid"])
    world.places[USERINFO] = trouble
    client = client_of(world, store)
    started = trio.current_time()
    issued = await client.redeem(await begin(client), "x")
    assert (issued.access_token, issued.account) == ("at", None)
    assert trio.current_time() - started <= LABEL_WITHIN


@pytest.mark.requirement("UP8")
async def test_what_is_learned_for_one_upstream_says_nothing_about_another(world: World, store: Store) -> None:
    other = Upstream("wiki", "https://wiki.example/mcp", "wiki")
    client = client_of(world, store, mail(), other)
    await begin(client)
    world.publish_resource(
        "https://wiki.example/.well-known/oauth-protected-resource/mcp", resource="https://wiki.example/mcp"
    )
    assert (await begin(client, other)).client_id == "c2"  # the same server, and another client there
    assert world.urls().count(SERVER) == 2


@pytest.mark.requirement("UP9")
async def test_no_token_or_secret_is_shown(
    world: World, store: Store, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    world.issue(access_token="canary-access", refresh_token="canary-refresh")
    upstream = mail(client_id="ours", client_secret=Secret("canary-secret"))
    client = client_of(world, store, upstream)
    beginning = await begin(client, upstream)
    issued = await client.redeem(beginning, "canary-code")
    world.places[TOKEN] = answer({"error": "canary-access", "error_description": "canary-refresh"}, 503)
    outcome = await refresh(client, upstream, client_id="ours", refresh_token="canary-refresh")
    shown = caplog.text + repr([client, beginning, issued, outcome]) + "".join(capsys.readouterr())
    assert "canary" not in shown
    assert PRM in world.urls()


async def test_a_refresh_does_not_depend_on_the_health_of_the_metadata(
    world: World, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    client = client_of(world, store)
    assert isinstance(await refresh(client), IssuedTokens)
    await trio.sleep(KEPT_FOR)
    world.places[SERVER] = answer(b"", 503)
    assert isinstance(await refresh(client), IssuedTokens)
    await trio.sleep(PAUSE)
    world.publish_server("https://evil.example", SERVER)
    assert isinstance(await refresh(client), Ended)
