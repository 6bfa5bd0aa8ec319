"""Clocks that differ between two instances, and one that is set back: F9."""

from __future__ import annotations

import pytest

from aggregator.store.memory import MemoryStore

from ..deployment import ANNA, Browser, Clock, Deployment, read


@pytest.mark.requirement("AF9")
@pytest.mark.parametrize("skew", [-600.0, -60.0, 60.0, 600.0])
async def test_tokens_hold_where_the_clock_differs_and_no_life_is_negative(skew: float) -> None:
    here, there = Clock(), Clock()
    there.now += skew
    store = MemoryStore(clock=here)
    one, other = Deployment(store=store, clock=here), Deployment(store=store, clock=there)
    client = await one.register()
    tokens = await one.tokens(client)
    assert other.authenticate(tokens["access_token"]).principal == ANNA.principal
    for at in (other, one, other):
        response = await at.refresh(client, tokens["refresh_token"])
        assert response.status == 200, response.body
        tokens = read(response)
        assert 0 < tokens["expires_in"] <= one.config.tokens.access
        for instance in (one, other):
            assert instance.authenticate(tokens["access_token"]).principal == ANNA.principal


@pytest.mark.parametrize(("skew", "status"), [(-3600.0, 200), (-600.0, 200), (-50.0, 200), (50.0, 200), (600.0, 400)])
async def test_a_code_lives_60_seconds_by_the_clock_of_whoever_redeems_it(skew: float, status: int) -> None:
    here, there = Clock(), Clock()
    there.now += skew
    store = MemoryStore(clock=here)
    one, other = Deployment(store=store, clock=here), Deployment(store=store, clock=there)
    client = await one.register()
    code = (await Browser(one).obtain_answer(client))["code"]
    assert (await other.redeem(client, code)).status == status


@pytest.mark.requirement("AF9")
async def test_a_clock_set_back_by_an_hour_ends_no_login_and_revives_none() -> None:
    deployment = Deployment()
    client = await deployment.register()
    tokens, ended = await deployment.tokens(client), await deployment.tokens(client)
    await deployment.post("/revoke", {"client_id": client["client_id"], "token": ended["refresh_token"]})
    deployment.clock.pass_by(-3600)
    assert (await deployment.refresh(client, ended["refresh_token"])).status == 400
    assert deployment.authenticate(tokens["access_token"]).principal == ANNA.principal
    renewed = read(await deployment.refresh(client, tokens["refresh_token"]))
    assert 0 < renewed["expires_in"] <= deployment.config.tokens.access
    assert deployment.authenticate(renewed["access_token"]).principal == ANNA.principal
