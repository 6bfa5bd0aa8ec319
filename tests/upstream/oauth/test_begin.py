"""The way to an upstream's authorization server: found, allowed, and known there, before anybody is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import trio
import trio.testing

from aggregator.config.model import Secret, Upstream
from aggregator.errors import ConnectFailed, Unfetchable
from aggregator.protocol.brokering import Beginning
from aggregator.store import Store
from aggregator.store.memory import open_memory_store
from aggregator.upstream.network.learned_http import Answer
from aggregator.upstream.oauth.client import BEGIN_WITHIN, OAuthClient
from aggregator.upstream.oauth.discovery import KEPT_FOR, PAUSE

from .world import CALLBACK, ISSUER, MCP, PRM, Asked, World, answer, client_of, mail, usual_world

ROOT = "https://mcp.example/.well-known/oauth-protected-resource"
SERVER = "https://as.example/.well-known/oauth-authorization-server"
OPENID = "https://as.example/.well-known/openid-configuration"


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


async def failure(client: OAuthClient, upstream: Upstream | None = None, **changes: Any) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        await begin(client, upstream, **changes)
    return caught.value


def query(beginning: Beginning) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(beginning.url).query))


@pytest.mark.requirement("UP3")
async def test_a_login_begins_where_the_upstream_says(world: World, store: Store) -> None:
    world.publish_resource(scopes_supported=["read", "write"])
    beginning = await begin(client_of(world, store))
    assert world.urls() == [PRM, SERVER, "https://as.example/register"]
    assert beginning.url.startswith("https://as.example/authorize?")
    assert query(beginning)["resource"] == MCP
    assert query(beginning)["scope"] == "read write"
    assert query(beginning)["state"] == "s"
    assert (beginning.issuer, beginning.token_endpoint) == (ISSUER, "https://as.example/token")
    assert (beginning.client_id, beginning.resource, beginning.scope) == ("c1", MCP, "read write")
    assert beginning.verifier not in beginning.url
    assert beginning.verifier not in repr(beginning)


async def test_a_challenge_names_the_document_and_the_scope(world: World, store: Store) -> None:
    world.places["https://mcp.example/custom.json"] = world.places.pop(PRM)
    challenge = 'Bearer resource_metadata="https://mcp.example/custom.json", scope="mail.read"'
    beginning = await begin(client_of(world, store), challenge=challenge)
    assert world.urls()[0] == "https://mcp.example/custom.json"
    assert beginning.scope == "mail.read"


@pytest.mark.requirement("UP8")
@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "file:///etc/passwd", "http://mcp.example/x"])
async def test_a_document_where_we_do_not_go_is_not_asked_for(world: World, store: Store, url: str) -> None:
    beginning = await begin(client_of(world, store), challenge=f'Bearer resource_metadata="{url}"')
    assert beginning.issuer == ISSUER  # found at its usual place
    assert url not in world.urls()


async def test_the_root_form_comes_after_the_path_form(world: World, store: Store) -> None:
    del world.places[PRM]
    world.publish_resource(ROOT, resource="https://mcp.example")
    beginning = await begin(client_of(world, store))
    assert world.urls()[:2] == [PRM, ROOT]
    assert beginning.resource == "https://mcp.example"


@pytest.mark.requirement("UP1")
async def test_a_document_of_another_resource_ends_the_attempt(world: World, store: Store) -> None:
    world.publish_resource(resource="https://evil.example/mcp")
    refused = await failure(client_of(world, store))
    assert "speaks for the resource https://evil.example/mcp" in str(refused)
    assert not refused.temporary
    assert not [url for url in world.urls() if "as.example" in url]


@pytest.mark.requirement("UP1")
async def test_the_metadata_of_another_issuer_ends_the_attempt(world: World, store: Store) -> None:
    """An attacker's server whose document names the honest one would have the code sent to the attacker."""
    world.publish_resource(authorization_servers=["https://evil.example"])
    world.publish_server(ISSUER, "https://evil.example/.well-known/oauth-authorization-server")
    refused = await failure(client_of(world, store))
    assert "https://evil.example speaks for https://as.example" in str(refused)
    assert world.urls("POST") == []


@pytest.mark.requirement("UP2")
async def test_an_issuer_with_a_path_is_asked_in_three_places(world: World, store: Store) -> None:
    tenant = "https://as.example/t1"
    world.publish_resource(authorization_servers=[tenant])
    world.publish_server(tenant, f"{tenant}/.well-known/openid-configuration")
    world.register_clients(tenant)
    beginning = await begin(client_of(world, store))
    assert beginning.issuer == tenant
    assert world.urls()[1:4] == [f"{SERVER}/t1", f"{OPENID}/t1", f"{tenant}/.well-known/openid-configuration"]


@pytest.mark.requirement("UP2")
async def test_a_server_without_pkce_is_refused_unless_the_operator_names_it(
    world: World, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    world.publish_server(code_challenge_methods_supported=...)
    client = client_of(world, store)
    assert "PKCE" in str(await failure(client))
    assert world.urls("POST") == []
    await trio.sleep(PAUSE)
    beginning = await begin(client, mail(authorization_server=ISSUER))
    assert query(beginning)["code_challenge_method"] == "S256"


async def test_the_slash_that_a_framework_adds_is_no_other_issuer(world: World, store: Store) -> None:
    world.publish_resource(authorization_servers=[ISSUER + "/"])
    assert (await begin(client_of(world, store))).issuer == ISSUER


async def test_a_page_in_the_place_of_a_document_is_passed_over(world: World, store: Store) -> None:
    page = answer(b"<html>", content_type="text/html; charset=utf-8")
    world.places[PRM] = page
    world.publish_resource(ROOT, resource="https://mcp.example/")
    world.places[OPENID] = world.places.pop(SERVER)
    world.places[SERVER] = page
    assert (await begin(client_of(world, store))).issuer == ISSUER


async def test_an_older_server_without_any_metadata_has_the_default_endpoints(store: Store) -> None:
    world = World()
    world.register_clients("https://mcp.example")
    beginning = await begin(client_of(world, store))
    assert beginning.url.startswith("https://mcp.example/authorize?")
    assert (beginning.issuer, beginning.token_endpoint) == ("https://mcp.example", "https://mcp.example/token")
    assert query(beginning)["resource"] == MCP


async def test_an_older_server_with_metadata_at_its_root_is_read(store: Store) -> None:
    world = World()
    world.publish_server("https://mcp.example")
    world.register_clients("https://mcp.example")
    assert (await begin(client_of(world, store))).token_endpoint == "https://mcp.example/token"


async def test_a_server_that_is_named_must_describe_itself(world: World, store: Store) -> None:
    del world.places[SERVER]
    refused = await failure(client_of(world, store))
    assert "https://as.example publishes no metadata" in str(refused)
    assert not refused.temporary


@pytest.mark.parametrize("status", [429, 500, 503, 408])
@pytest.mark.parametrize("place", [PRM, SERVER])
async def test_trouble_on_the_way_leads_to_no_other_server(world: World, store: Store, place: str, status: int) -> None:
    """A resource whose metadata cannot be had is not thereby one without metadata."""
    world.places[place] = answer(b"", status)
    refused = await failure(client_of(world, store))
    assert refused.temporary
    assert world.urls("POST") == []


@pytest.mark.requirement("UP8")
async def test_nobody_learns_from_us_what_answers_where(world: World, store: Store) -> None:
    world.unreachable.add("as.example")
    told = await failure(client_of(world, store))
    assert told.temporary
    assert "10.0.0.1" not in str(told)
    assert "as.example" not in str(told)


@pytest.mark.requirement("UP8")
async def test_own_hosts_are_reached_as_configured_and_others_as_strangers(world: World, store: Store) -> None:
    await begin(client_of(world, store))
    assert [(each.url, each.is_inside) for each in world.asked] == [
        (PRM, True),
        (SERVER, False),
        ("https://as.example/register", False),
    ]


@pytest.mark.requirement("UP8")
@pytest.mark.parametrize("issuer", ["http://10.0.0.1:8080", "http://localhost:9000", "http://as.example"])
async def test_a_private_server_needs_the_operators_word(
    world: World, store: Store, issuer: str, autojump_clock: trio.testing.MockClock
) -> None:
    world.publish_resource(authorization_servers=[issuer])
    world.publish_server(issuer)
    world.register_clients(issuer)
    client = client_of(world, store)
    refused = await failure(client)
    assert "does not go to" in str(refused)
    assert world.urls() == [PRM]
    opened = Upstream("wiki", MCP, "wiki", account=mail(allow_private_network=True).account)
    assert (await begin(client, opened)).issuer == issuer
    await trio.sleep(PAUSE)
    assert "does not go to" in str(await failure(client))  # what one upstream may, another may not


async def test_a_configured_server_is_asked_whatever_the_upstream_says(world: World, store: Store) -> None:
    configured = "http://idp.corp:8080/realm"
    world.publish_resource(resource="https://other.example", authorization_servers=["https://evil.example"])
    world.publish_server(configured)
    upstream = mail(
        authorization_server=configured,
        client_id="ours",
        client_secret=Secret("s3cret"),
        scopes=("x",),
        send_resource=False,
        authorization_params={"access_type": "offline"},
    )
    beginning = await begin(client_of(world, store), upstream)
    assert (beginning.issuer, beginning.client_id, beginning.resource) == (configured, "ours", None)
    assert "resource" not in query(beginning)
    assert (query(beginning)["scope"], query(beginning)["access_type"]) == ("x", "offline")
    assert "s3cret" not in beginning.url
    assert world.urls("POST") == []


async def test_our_document_is_our_name_where_it_can_be_fetched(world: World, store: Store) -> None:
    world.publish_server(client_id_metadata_document_supported=True)
    beginning = await begin(client_of(world, store, issuer_url="https://agg.example"))
    assert beginning.client_id == "https://agg.example/.well-known/oauth-client"
    assert world.urls("POST") == []
    assert (await begin(client_of(world, store))).client_id == "c1"  # nobody could fetch it from localhost


@pytest.mark.requirement("UP5", "UP6")
async def test_a_registration_is_made_once_and_remembered(world: World, store: Store) -> None:
    beginnings: list[Beginning] = []

    async def one(client: OAuthClient) -> None:
        beginnings.append(await begin(client))

    client = client_of(world, store)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one, client)
    await one(client_of(world, store))  # another process, or the next start
    assert {each.client_id for each in beginnings} == {"c1"}
    assert len(world.urls("POST")) == 1
    assert world.urls().count(SERVER) == 2
    sent = next(each.content for each in world.asked if each.method == "POST")
    assert sent["application_type"] == "native"
    assert sent["redirect_uris"] == [CALLBACK]
    assert len({each.verifier for each in beginnings}) == 11


@pytest.mark.requirement("UP5")
@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://new.example/upstream-auth/callback/mail"},
        {"wanted_scope": "read write"},
        {"challenge": 'Bearer scope="mail.send"'},
    ],
)
async def test_a_registration_that_no_longer_fits_is_made_anew(
    world: World, store: Store, changes: dict[str, Any]
) -> None:
    client = client_of(world, store)
    assert (await begin(client)).client_id == "c1"
    assert (await begin(client, **changes)).client_id == "c2"
    assert (await begin(client, **changes)).client_id == "c2"


async def test_a_step_up_within_what_the_resource_lists_needs_no_other_client(world: World, store: Store) -> None:
    """Else everybody's refresh tokens, which belong to the first client, would be of no use any more."""
    world.publish_resource(scopes_supported=["read", "write"])
    client = client_of(world, store)
    await begin(client, challenge='Bearer scope="read"')
    stepped = await begin(client, wanted_scope="read write")
    assert (stepped.client_id, stepped.scope) == ("c1", "read write")


async def test_a_secret_that_ends_soon_is_replaced(world: World, store: Store) -> None:
    world.publish_server(token_endpoint_auth_methods_supported=["client_secret_post"])
    world.register_clients(client_secret="s", client_secret_expires_at=1500)
    client = client_of(world, store)
    assert (await begin(client)).client_id == "c1"
    assert (await begin(client)).client_id == "c2"


@pytest.mark.parametrize(
    ("says", "client_id"),
    [
        (answer({"error": "invalid_client"}, 401), "c2"),
        (answer({"error": "unauthorized_client"}, 401), "c2"),
        (answer({"error": "invalid_grant"}, 400), "c1"),
        (answer({"error": "invalid_client"}, 503), "c1"),
        (answer(b"<html>", 404, content_type="text/html"), "c1"),
    ],
)
async def test_who_got_no_answer_becomes_another_client_if_the_server_does_not_know_this_one(
    world: World, store: Store, says: Answer, client_id: str
) -> None:
    """A server tells the person alone that it does not know the client: everybody's logins would end there for ever."""
    client = client_of(world, store)
    await begin(client)
    world.places[f"{ISSUER}/token"] = says
    world.asked.clear()
    assert (await begin(client)).client_id == "c1"
    assert world.urls("POST") == []
    assert (await begin(client, unanswered={"somebody else's"})).client_id == "c1"
    assert (await begin(client, unanswered={"c1"})).client_id == client_id
    assert (await begin(client)).client_id == client_id
    probe = next(each for each in world.asked if each.method == "POST")
    assert (probe.form["client_id"], probe.form["grant_type"]) == ("c1", "authorization_code")
    assert len(probe.form["code"]) > 40


async def test_a_server_that_does_not_say_whether_it_knows_us_is_believed_to(world: World, store: Store) -> None:
    client = client_of(world, store)
    await begin(client)

    async def away(asked: Asked) -> Answer:
        raise Unfetchable("gone")

    world.places[f"{ISSUER}/token"] = away
    assert (await begin(client, unanswered={"c1"})).client_id == "c1"


@pytest.mark.requirement("UP5")
async def test_a_new_authorization_server_gets_a_new_registration(world: World, store: Store) -> None:
    client = client_of(world, store)
    await begin(client)
    moved = "https://as2.example"
    world.publish_resource(authorization_servers=[moved])
    world.publish_server(moved)
    world.register_clients(moved, client_id="at-as2")
    beginning = await begin(client)
    assert (beginning.issuer, beginning.client_id) == (moved, "at-as2")
    assert not [each for each in world.asked if "as2" in each.url and "c1" in json.dumps(each.content)]


async def test_a_servers_metadata_is_believed_for_minutes(
    world: World, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    client = client_of(world, store)
    await begin(client)
    await trio.sleep(KEPT_FOR - 1)
    await begin(client)
    assert (world.urls().count(PRM), world.urls().count(SERVER)) == (2, 1)
    await trio.sleep(2)
    await begin(client)
    assert world.urls().count(SERVER) == 2


async def test_a_failure_is_told_to_all_who_ask_at_once_and_then_tried_again(
    world: World, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    good = world.places[SERVER]
    world.places[SERVER] = answer(b"", 503)
    client = client_of(world, store)
    for _ in range(5):
        assert (await failure(client)).temporary
    assert world.urls().count(SERVER) == 1
    world.places[SERVER] = good
    await trio.sleep(PAUSE)
    await begin(client)


async def test_who_waited_reads_it_when_the_first_gives_up(world: World, store: Store) -> None:
    good, first = world.places[SERVER], trio.Event()
    client, ended = client_of(world, store), []

    async def hang(asked: Asked) -> Answer:
        first.set()
        await trio.sleep_forever()

    world.places[SERVER] = hang

    async def one() -> None:
        ended.append(await begin(client))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as gives_up:
            async with trio.open_nursery() as inner:
                inner.start_soon(one)
                await first.wait()
                nursery.start_soon(one)
                await trio.testing.wait_all_tasks_blocked()
                world.places[SERVER] = good
                gives_up.cancel()
    assert len(ended) == 1


async def test_a_server_that_hangs_is_waited_for_a_bounded_time(
    world: World, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    async def hang(asked: Asked) -> Answer:
        await trio.sleep_forever()

    world.places["https://as.example/register"] = hang
    started = trio.current_time()
    refused = await failure(client_of(world, store))
    assert trio.current_time() - started == BEGIN_WITHIN
    assert refused.temporary


async def test_without_any_way_to_become_a_client_the_operator_is_told(world: World, store: Store) -> None:
    world.publish_server(registration_endpoint=...)
    assert "'clientId'" in str(await failure(client_of(world, store)))


@pytest.mark.requirement("UP5")
async def test_a_configured_client_stays_with_the_first_server_unless_the_operator_names_one(
    world: World, store: Store
) -> None:
    """A secret must not follow an upstream that names another server."""
    ours = mail(client_id="ours", client_secret=Secret("s3cret"))
    client = client_of(world, store, ours)
    await begin(client, ours)
    world.publish_resource(authorization_servers=["https://evil.example"])
    world.publish_server("https://evil.example")
    refused = await failure(client_of(world, store, ours), ours)
    assert "https://evil.example now, and its 'clientId' was used at https://as.example" in str(refused)
    assert not refused.temporary
    assert (await begin(client, mail(client_id="ours", authorization_server=ISSUER))).issuer == ISSUER
    assert (await begin(client, mail(client_id="new"))).issuer == "https://evil.example"  # the operator moved it


async def test_a_key_in_the_query_of_an_upstream_goes_to_nobody(store: Store) -> None:
    world = World()
    world.register_clients("https://mcp.example")
    beginning = await begin(client_of(world, store), mail(f"{MCP}?key=s3cret"))
    assert beginning.resource == MCP
    assert not [url for url in [*world.urls(), beginning.url] if "s3cret" in url]
