"""``/connections`` and ``/clients``: how a person stands everywhere, and what they can end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aggregator.store import Connection
from aggregator.upstream.credentials import Standing
from aggregator.upstream.listings import UpstreamStatus
from aggregator.web.people.clients_page import signed_in_client
from aggregator.web.people.connections_page import row_of

from ..account_fakes import CLOCKS, GMAIL, FakeAccounts, status_of
from ..connecting import World, begun, came_back, destination
from ..deployment import (
    ANNA,
    BEN,
    FROM_OWN_PAGE,
    ISSUER,
    LOOPBACK,
    Browser,
    Deployment,
    hidden_fields,
    location,
    text_of,
)

OWN = "anna gmail"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (status_of("gmail", "needs_login", error="401"), ("Not connected", "", "Connect")),
        (status_of("gmail", "connected", Standing(OWN, "connected")), ("Connected", "", "Disconnect")),
        (
            status_of("gmail", "connected", Standing(OWN, "connected", account="anna@gmail.example")),
            ("Connected", "As anna@gmail.example.", "Disconnect"),
        ),
        (
            status_of("gmail", "needs_login", Standing(state="needs_login", reason="the login has expired")),
            ("Login needed", "The login has expired.", "Reconnect"),
        ),
        (
            status_of("gmail", "retrying", Standing(OWN, "retrying", "429 Too Many Requests", 1_790_000_000.0)),
            ("Trying again", "429 Too Many Requests; next try at 14:13:20 UTC.", "Disconnect"),
        ),
        (
            status_of("gmail", "unreachable", Standing(OWN, "connected", account="a"), error="connection refused"),
            ("Unreachable", "As a. Connection refused.", "Disconnect"),
        ),
        (
            status_of("gmail", "unreachable", error="connection refused"),
            ("Unreachable", "Connection refused.", "Connect"),
        ),
        (status_of("gmail", "connected"), ("Shared", "Works without your account.", "Connect")),
        (status_of("gmail", "connecting"), ("Being looked at", "", "Connect")),
        (status_of("gmail", "not_started"), ("Not started", "Starts when it is first used.", "Connect")),
    ],
)
def test_each_state_has_its_words_and_one_thing_to_do(
    status: UpstreamStatus, expected: tuple[str, str, str | None]
) -> None:
    row = row_of(GMAIL, status)
    assert (row.state, row.detail, row.action) == expected
    assert (row.title, row.host) == ("Gmail", "mcp.gmail.example")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (status_of("clocks", "connected"), "Shared"),
        (status_of("clocks", "unreachable", error="no list within 5 s"), "Unreachable"),
        (status_of("clocks", "needs_login", error="401"), "Refused"),
    ],
)
def test_what_is_the_same_for_everyone_has_nothing_to_press(status: UpstreamStatus, state: str) -> None:
    row = row_of(CLOCKS, status)
    assert (row.state, row.action) == (state, None)


async def test_the_page_needs_a_sign_in_and_shows_every_upstream() -> None:
    world = World()
    assert (await Browser(world.deployment).get("/connections")).status == 303
    page = text_of(await (await world.signed_in()).get("/connections"))
    for words in ("Gmail", "mcp.gmail.example", "slack", "clocks", "Not connected", "Shared", "anna@example.com"):
        assert words in page


async def test_disconnecting_ends_ones_own_connection_only() -> None:
    world = World()
    anna, ben = await world.signed_in(ANNA), await world.signed_in(BEN)
    for browser in (anna, ben):
        await came_back(browser, world.fakes.oauth.allow(await begun(browser)))
    form = hidden_fields(await anna.get("/connections"))
    response = await anna.post("/connections/disconnect", form | {"upstream": "gmail"}, *FROM_OWN_PAGE)
    assert (response.status, location(response)) == (303, f"{ISSUER}/connections")
    assert set(world.saved) == {("ben", "gmail")}


@pytest.mark.parametrize("upstream", ["", "unknown", "clocks", "<b>"])
async def test_only_what_is_connected_by_people_can_be_disconnected(upstream: str) -> None:
    world = World()
    browser = await world.signed_in()
    form = hidden_fields(await browser.get("/connections"))
    page = await browser.post("/connections/disconnect", form | {"upstream": upstream}, *FROM_OWN_PAGE)
    assert page.status == 404


async def test_all_that_have_expired_are_reconnected_in_turn() -> None:
    world = World()
    browser = await world.signed_in()
    for upstream in ("gmail", "slack"):
        await came_back(browser, world.fakes.oauth.allow(await begun(browser, upstream)))
    assert "Reconnect all expired" not in text_of(await browser.get("/connections"))
    world.fakes.connecting.ended = set(world.fakes.connecting.saved)
    page = await browser.get("/connections")
    assert "Reconnect all expired" in text_of(page)
    csrf = {"csrf": hidden_fields(page)["csrf"]}
    going = await browser.post("/connections/reconnect", csrf, *FROM_OWN_PAGE)
    page = await came_back(browser, world.fakes.oauth.allow(destination(going)))
    going = await browser.post("/connect/slack", hidden_fields(page), *FROM_OWN_PAGE)
    await came_back(browser, world.fakes.oauth.allow(destination(going)))
    assert world.fakes.connecting.ended == set()
    again = await browser.post("/connections/reconnect", csrf, *FROM_OWN_PAGE)
    assert location(again) == f"{ISSUER}/connections"


async def test_what_has_expired_can_be_forgotten_instead() -> None:
    world = World()
    browser = await world.signed_in()
    await came_back(browser, world.fakes.oauth.allow(await begun(browser)))
    assert "Forget" not in text_of(await browser.get("/connections"))
    world.fakes.connecting.ended = set(world.fakes.connecting.saved)
    page = await browser.get("/connections")
    assert "Forget" in text_of(page)
    form = {"csrf": hidden_fields(page)["csrf"], "upstream": "gmail"}
    assert location(await browser.post("/connections/disconnect", form, *FROM_OWN_PAGE)) == f"{ISSUER}/connections"
    page = await browser.get("/connections")
    assert "Forget" not in text_of(page)
    assert "Reconnect" not in text_of(page)


def test_where_more_is_asked_for_the_person_may_connect_again() -> None:
    standing = Standing("anna c1", "connected", "more access was asked for: mail.send", account="anna@gmail.example")
    row = row_of(GMAIL, status_of("gmail", "connected", standing))
    assert (row.state, row.action, row.also) == ("Connected", "Disconnect", "Reconnect")
    assert row.detail == "As anna@gmail.example. More access was asked for: mail.send."


async def test_what_a_call_was_refused_for_is_asked_for_at_the_next_connecting() -> None:
    world = World()
    browser = await world.signed_in()
    await world.deployment.store.save_connection(
        Connection(ANNA.principal, "gmail", "c1", "at", "rt", wanted_scope="mail.send")
    )
    await begun(browser)
    assert [scope for _, _, scope in world.fakes.oauth.begun] == ["mail.send"]


@pytest.mark.requirement("CO7")
async def test_a_person_sees_their_clients_and_revokes_one() -> None:
    deployment = Deployment()
    one, other = await deployment.register(client_name="Acme <Chat>"), await deployment.register(LOOPBACK)
    tokens, kept = await deployment.tokens(one), await deployment.tokens(other)
    browser = Browser(deployment)
    await browser.sign_in(to="/clients")
    page = await browser.get("/clients")
    for words in (
        "Acme &lt;Chat&gt;",
        "client.example",
        "an app on a computer (127.0.0.1:50123)",
        "21 Sep 2026, 14:13",
    ):
        assert words in text_of(page)
    grant = next(g for g in await deployment.store.grants_of(ANNA.principal) if g.client_name == "Acme <Chat>")
    form = {"csrf": hidden_fields(page)["csrf"], "grant": grant.id}
    assert (await browser.post("/clients/revoke", form, *FROM_OWN_PAGE)).status == 303
    assert "Acme" not in text_of(await browser.get("/clients"))
    with pytest.raises(Exception, match="401"):
        deployment.authenticate(tokens["access_token"])
    assert (await deployment.refresh(one, tokens["refresh_token"])).status == 400
    assert deployment.authenticate(kept["access_token"]).principal == ANNA.principal


@pytest.mark.requirement("CO7")
async def test_nobody_sees_or_revokes_another_persons_clients() -> None:
    deployment = Deployment()
    tokens = await deployment.tokens(await deployment.register(client_name="Acme Chat"))
    [grant] = await deployment.store.grants_of(ANNA.principal)
    browser = Browser(deployment)
    await browser.sign_in(BEN, to="/clients")
    page = await browser.get("/clients")
    assert "Acme" not in text_of(page)
    for named in (grant.id, "unknown", ""):
        form = {"csrf": hidden_fields(page)["csrf"], "grant": named}
        assert (await browser.post("/clients/revoke", form, *FROM_OWN_PAGE)).status == 404
    assert deployment.authenticate(tokens["access_token"]).principal == ANNA.principal


async def test_a_client_that_is_a_url_is_shown_by_the_host_of_it() -> None:
    deployment = Deployment()
    await deployment.tokens(await deployment.register())
    [grant] = await deployment.store.grants_of(ANNA.principal)
    by_url = replace(grant, client="https://claude.example/client.json", last_used_at=None, rotated_at=None)
    assert signed_in_client(by_url).where == "claude.example"
    assert signed_in_client(by_url).last_used is None


async def test_texts_of_others_stand_on_the_page_as_text() -> None:
    hostile = "<script>alert(1)</script>"
    fakes = FakeAccounts((replace(GMAIL, display_name=hostile),))
    fakes.overrides["gmail"] = status_of("gmail", "unreachable", error=hostile)
    world = World(fakes=fakes)
    browser = await world.signed_in()
    for target in ("/connections", "/connect/gmail", "/connect"):
        page = text_of(await browser.get(target))
        assert "<script" not in page
        assert "&lt;script&gt;" in page
