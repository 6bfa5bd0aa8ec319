"""``/token`` and ``/revoke``: once per code, once per generation, on any process."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import quote_plus

import pytest
import trio

from aggregator.config.model import Tokens
from aggregator.errors import Refusal
from aggregator.web.http import Response

from ..deployment import ANNA, BEN, CALLBACK, ISSUER, Browser, Deployment, Flaky, header, read


async def code_of(deployment: Deployment, client: dict[str, Any]) -> str:
    return (await Browser(deployment).obtain_answer(client))["code"]


def twin(deployment: Deployment) -> Deployment:
    """A second process of the same deployment."""
    return Deployment(store=deployment.store, clock=deployment.clock, provider=deployment.provider)


def refused(deployment: Deployment, token: str) -> bool:
    try:
        deployment.authenticate(token)
    except Refusal as exc:
        return exc.status == 401
    return False


@pytest.mark.requirement("TK4")
async def test_a_code_becomes_a_pair_of_tokens() -> None:
    deployment = Deployment()
    client = await deployment.register()
    response = await deployment.redeem(client, await code_of(deployment, client), redirect_uri=CALLBACK)
    assert response.status == 200
    assert header(response, "cache-control") == "no-store"
    tokens = read(response)
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 900, "mcp:tools")
    assert isinstance(tokens["expires_in"], int)
    assert deployment.authenticate(tokens["access_token"]).principal == ANNA.principal


@pytest.mark.requirement("TK1")
async def test_the_endpoint_takes_forms_by_post_only() -> None:
    deployment = Deployment()
    for path in ("/token", "/revoke"):
        assert set(deployment.routes[path].methods) == {"POST"}
        assert deployment.routes[path].cors
        response = await deployment.send("POST", path, (("content-type", "application/json"),), b"{}")
        assert (response.status, read(response)["error"]) == (400, "invalid_request")
        # RFC 6749 5.2: error_description "MUST NOT include characters outside the set %x20-21 / %x23-5B / %x5D-7E"
        strange = await deployment.send("POST", path, (("content-type", 'a"\\\xe9' * 5000),), b"{}")
        assert re.fullmatch(r"[ !#-[\]-~]{1,200}", read(strange)["error_description"])
        twice = await deployment.post(path, [("client_id", "a"), ("client_id", "b")])
        assert (twice.status, read(twice)["error"]) == (400, "invalid_request")
        assert header(twice, "cache-control") == "no-store"


@pytest.mark.requirement("TK1")
async def test_another_grant_is_unsupported_and_unknown_parameters_are_ignored() -> None:
    deployment = Deployment()
    client = await deployment.register()
    response = await deployment.post("/token", {"grant_type": "password", "client_id": client["client_id"]})
    assert (response.status, read(response)["error"]) == (400, "unsupported_grant_type")
    assert (await deployment.redeem(client, await code_of(deployment, client), audience="x", foo="y")).status == 200


@pytest.mark.requirement("TK2")
async def test_a_second_redemption_is_refused_and_ends_everything_of_the_code() -> None:
    deployment = Deployment()
    client = await deployment.register()
    code = await code_of(deployment, client)
    tokens = read(await deployment.redeem(client, code))
    again = await deployment.redeem(client, code)
    assert (again.status, read(again)["error"]) == (400, "invalid_grant")
    assert refused(deployment, tokens["access_token"])
    assert (await deployment.refresh(client, tokens["refresh_token"])).status == 400
    assert await deployment.store.grants_of(ANNA.principal) == ()


@pytest.mark.requirement("TK2")
async def test_two_processes_redeem_one_code_once_however_they_race() -> None:
    one = Deployment()
    other = twin(one)
    client = await one.register()
    code = await code_of(one, client)
    responses: list[Response] = []

    async def redeem(deployment: Deployment) -> None:
        responses.append(await deployment.redeem(client, code))

    async with trio.open_nursery() as nursery:
        for deployment in (one, other) * 10:
            nursery.start_soon(redeem, deployment)
    assert sorted(response.status for response in responses) == [200] + [400] * 19
    [good] = [read(response) for response in responses if response.status == 200]
    assert (await other.refresh(client, good["refresh_token"])).status == 400


@pytest.mark.requirement("TK2", "TK3")
async def test_a_wrong_verifier_does_not_spend_the_code() -> None:
    deployment = Deployment()
    client, stranger = await deployment.register(), await deployment.register()
    code = await code_of(deployment, client)
    for attempt in (
        await deployment.redeem(client, code, code_verifier="w" * 43),
        await deployment.redeem(client, code, code_verifier=""),
        await deployment.redeem(client, code, redirect_uri="https://client.example/other"),
        await deployment.redeem(stranger, code),
    ):
        assert (attempt.status, read(attempt)["error"]) == (400, "invalid_grant")
    wrong_target = await deployment.redeem(client, code, resource="https://other.example/mcp")
    assert read(wrong_target)["error"] == "invalid_target"
    assert (await deployment.redeem(client, code, resource=ISSUER + "/mcp")).status == 200


@pytest.mark.requirement("AZ12")
async def test_a_code_lives_a_minute() -> None:
    deployment = Deployment()
    client = await deployment.register()
    code = await code_of(deployment, client)
    deployment.clock.pass_by(60)
    late = await deployment.redeem(client, code)
    assert (late.status, read(late)["error"]) == (400, "invalid_grant")
    assert await deployment.store.grants_of(ANNA.principal) == ()


@pytest.mark.requirement("TK3")
@pytest.mark.parametrize("code", ["x", "mcpa_ac_", "mcpa_ac_a..b.c.d", "ü", "\x00", "a" * 9000])
async def test_anything_else_as_a_code_is_an_invalid_grant(code: str) -> None:
    deployment = Deployment()
    client = await deployment.register()
    for response in (await deployment.redeem(client, code), await deployment.refresh(client, code)):
        assert (response.status, read(response)["error"]) == (400, "invalid_grant")


@pytest.mark.requirement("TK5")
async def test_unknown_clients_and_wrong_secrets_are_invalid_clients() -> None:
    deployment = Deployment()
    client = await deployment.register(token_endpoint_auth_method="client_secret_basic")
    code = await code_of(deployment, client)
    for response in (
        await deployment.redeem({"client_id": "nobody"}, code),
        await deployment.redeem(client, code),
        await deployment.redeem(client, code, client_secret="wrong"),
    ):
        assert (response.status, read(response)["error"]) == (401, "invalid_client")
        assert header(response, "cache-control") == "no-store"
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": "x"}
    bad = ("authorization", "Basic " + base64.b64encode(b"nobody:x").decode())
    challenged = await deployment.post("/token", form, bad)
    assert challenged.status == 401
    assert header(challenged, "www-authenticate") == 'Basic realm="mcp-aggregator"'


@pytest.mark.requirement("TK5")
async def test_a_confidential_client_redeems_with_its_secret_either_way() -> None:
    deployment = Deployment()
    client = await deployment.register(token_endpoint_auth_method="client_secret_basic")
    tokens = read(
        await deployment.redeem(client, await code_of(deployment, client), client_secret=client["client_secret"])
    )
    pair = f"{quote_plus(client['client_id'])}:{quote_plus(client['client_secret'])}"
    credentials = ("authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert (await deployment.post("/token", form, credentials)).status == 200


@pytest.mark.requirement("TK6", "TK7")
async def test_a_refresh_gives_a_new_pair_of_the_same_scope() -> None:
    deployment = Deployment()
    client = await deployment.register()
    tokens = await deployment.tokens(client)
    fresh = read(await deployment.refresh(client, tokens["refresh_token"], scope="mcp:tools", resource=ISSUER + "/mcp"))
    assert fresh["refresh_token"] != tokens["refresh_token"]
    assert fresh["scope"] == tokens["scope"]
    assert deployment.authenticate(fresh["access_token"]).principal == ANNA.principal


@pytest.mark.requirement("TK6", "TK10")
async def test_a_refresh_never_widens_and_a_refused_one_spends_nothing() -> None:
    deployment = Deployment()
    client, stranger = await deployment.register(), await deployment.register()
    token = (await deployment.tokens(client))["refresh_token"]
    for response, error in (
        (await deployment.refresh(client, token, scope="mcp:tools admin"), "invalid_scope"),
        (await deployment.refresh(client, token, resource="https://other.example"), "invalid_target"),
        (await deployment.refresh(stranger, token), "invalid_grant"),
    ):
        assert (response.status, read(response)["error"]) == (400, error)
    assert (await deployment.store.grants_of(ANNA.principal))[0].generation == 0
    assert (await deployment.refresh(client, token)).status == 200


@pytest.mark.requirement("TK7")
async def test_a_refresh_token_used_again_after_the_grace_ends_the_grant() -> None:
    deployment = Deployment()
    client = await deployment.register()
    first = (await deployment.tokens(client))["refresh_token"]
    second = read(await deployment.refresh(client, first))
    deployment.clock.pass_by(31)
    replay = await deployment.refresh(client, first)
    assert (replay.status, read(replay)["error"]) == (400, "invalid_grant")
    assert (await deployment.refresh(client, second["refresh_token"])).status == 400
    assert refused(deployment, second["access_token"])


@pytest.mark.requirement("TK7")
async def test_ten_parallel_refreshes_on_two_processes_keep_one_lineage_and_the_session() -> None:
    one = Deployment()
    other = twin(one)
    client = await one.register()
    token = (await one.tokens(client))["refresh_token"]
    answers: list[dict[str, Any]] = []

    async def refresh(deployment: Deployment) -> None:
        response = await deployment.refresh(client, token)
        assert response.status == 200
        answers.append(read(response))

    async with trio.open_nursery() as nursery:
        for deployment in (one, other) * 5:
            nursery.start_soon(refresh, deployment)
    assert (await one.store.grants_of(ANNA.principal))[0].generation == 1
    one.clock.pass_by(60)
    assert (await other.refresh(client, answers[3]["refresh_token"])).status == 200


@pytest.mark.requirement("TK7")
async def test_a_restarted_process_still_knows_what_was_rotated() -> None:
    one = Deployment()
    client = await one.register()
    token = (await one.tokens(client))["refresh_token"]
    await one.refresh(client, token)
    one.clock.pass_by(31)
    assert (await twin(one).refresh(client, token)).status == 400


@pytest.mark.requirement("TK8")
async def test_a_revoked_grant_refreshes_no_more() -> None:
    deployment = Deployment()
    client = await deployment.register()
    token = (await deployment.tokens(client))["refresh_token"]
    [grant] = await deployment.store.grants_of(ANNA.principal)
    await deployment.store.revoke_grant(grant.id, now=deployment.clock())
    response = await deployment.refresh(client, token)
    assert (response.status, read(response)["error"]) == (400, "invalid_grant")


@pytest.mark.requirement("TK9")
async def test_a_refresh_token_ends_idle_and_a_grant_ends_for_good() -> None:
    deployment = Deployment(tokens=Tokens(access=60, refresh=1000, refresh_idle=400))
    client = await deployment.register()
    idle = (await deployment.tokens(client))["refresh_token"]
    deployment.clock.pass_by(400)
    assert (await deployment.refresh(client, idle)).status == 400
    busy = (await deployment.tokens(client))["refresh_token"]
    for _ in range(3):
        deployment.clock.pass_by(300)
        response = await deployment.refresh(client, busy)
        assert response.status == 200
        busy = read(response)["refresh_token"]
    deployment.clock.pass_by(100)
    assert (await deployment.refresh(client, busy)).status == 400


@pytest.mark.requirement("TK11")
@pytest.mark.parametrize("kind", ["refresh_token", "access_token"])
async def test_revoking_either_token_ends_both_at_once(kind: str) -> None:
    deployment = Deployment()
    client = await deployment.register()
    tokens = await deployment.tokens(client)
    form = {"client_id": client["client_id"], "token": tokens[kind], "token_type_hint": "nonsense"}
    response = await deployment.post("/revoke", form)
    assert (response.status, response.body, header(response, "cache-control")) == (200, b"{}", "no-store")
    assert refused(deployment, tokens["access_token"])
    assert (await deployment.refresh(client, tokens["refresh_token"])).status == 400
    assert (await deployment.post("/revoke", form)).status == 200


@pytest.mark.requirement("TK11")
async def test_an_unknown_token_is_revoked_already_and_another_clients_is_not() -> None:
    deployment = Deployment()
    client, stranger = await deployment.register(), await deployment.register()
    tokens = await deployment.tokens(client)
    for text in ("nonsense", "mcpa_rt_x", "ü"):
        assert (await deployment.post("/revoke", {"client_id": client["client_id"], "token": text})).status == 200
    theirs = await deployment.post("/revoke", {"client_id": stranger["client_id"], "token": tokens["refresh_token"]})
    assert (theirs.status, read(theirs)["error"]) == (400, "invalid_grant")
    assert (await deployment.post("/revoke", {"client_id": "x", "token": "y"})).status == 401
    assert (await deployment.post("/revoke", {"client_id": client["client_id"]})).status == 400
    assert not refused(deployment, tokens["access_token"])
    assert (await deployment.refresh(client, tokens["refresh_token"])).status == 200


@pytest.mark.requirement("TK13")
async def test_two_people_and_one_client_never_mix() -> None:
    deployment = Deployment()
    client = await deployment.register(client_name="anna")
    annas, bens = await deployment.tokens(client, ANNA), await deployment.tokens(client, BEN)
    assert deployment.authenticate(annas["access_token"]).principal == ANNA.principal
    assert deployment.authenticate(bens["access_token"]).principal == BEN.principal


async def test_without_the_store_nothing_is_issued_and_nothing_is_spent() -> None:
    store = Flaky(Deployment().store)
    deployment = Deployment(store=store)
    client = await deployment.register()
    code = await code_of(deployment, client)
    store.away = True
    for response in (
        await deployment.redeem(client, code),
        await deployment.post("/revoke", {"client_id": client["client_id"], "token": "x"}),
    ):
        if response.status == 200:
            continue  # an unknown token needs no store
        assert (response.status, read(response)["error"]) == (503, "temporarily_unavailable")
        assert header(response, "retry-after") == "5"
    store.away = False
    tokens = read(await deployment.redeem(client, code))
    store.away = True
    form = {"client_id": client["client_id"], "token": tokens["refresh_token"]}
    assert (await deployment.post("/revoke", form)).status == 503
    assert (await deployment.refresh(client, tokens["refresh_token"])).status == 503
    store.away = False
    assert (await deployment.refresh(client, tokens["refresh_token"])).status == 200


@pytest.mark.requirement("RS4")
async def test_another_deployment_with_the_same_secret_and_store_takes_no_token_of_ours() -> None:
    ours = Deployment()
    theirs = Deployment(store=ours.store, clock=ours.clock, provider=ours.provider, issuer_url="https://other.example")
    client = await ours.register()
    tokens = await ours.tokens(client)
    assert refused(theirs, tokens["access_token"])
    assert (await theirs.refresh(client, tokens["refresh_token"])).status == 400
    assert (await theirs.redeem(client, await code_of(ours, client))).status == 400


async def test_clients_registered_before_a_restart_work_after_it() -> None:
    before = Deployment()
    client = await before.register(token_endpoint_auth_method="client_secret_post")
    after = Deployment()
    code = await code_of(after, client)
    assert (await after.redeem(client, code, client_secret=client["client_secret"])).status == 200
