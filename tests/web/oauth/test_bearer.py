"""Bearer authentication: exactly our access tokens for our resource, while their grant lives."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.errors import Refusal
from aggregator.protocol.oauth.sealed import AccessToken, seal_access
from aggregator.protocol.sealing import KeyRing
from aggregator.web.oauth.bearer import LISTENING_LIFETIME, MAX_OPENED, Authenticated

from ..deployment import ANNA, ISSUER, START, Browser, Deployment


def issued(deployment: Deployment, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "grant_id": "g1",
        "client": "reg-1",
        "principal": ANNA.principal,
        "scope": "mcp:tools",
        "resource": ISSUER + "/mcp",
        "issuer": ISSUER,
        "expires_at": START + 900,
        **changes,
    }
    return seal_access(deployment.keys, AccessToken(**fields), now=START)


def refusal(deployment: Deployment, *headers: tuple[bytes, bytes]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        deployment.bearer.authenticate(headers)
    return caught.value


def status(deployment: Deployment, token: str) -> int:
    try:
        deployment.authenticate(token)
    except Refusal as exc:
        return exc.status
    return 200


@pytest.mark.requirement("RS6", "RS7")
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_good_token_says_who_by_which_client_on_which_grant(scheme: str) -> None:
    deployment = Deployment()
    header = (b"authorization", f"{scheme} {issued(deployment)}".encode())
    expected = Authenticated(ANNA.principal, "g1", "reg-1", "mcp:tools", START + 900)
    for _ in range(2):
        assert deployment.bearer.authenticate([(b"host", b"x"), header, (b"accept", b"*/*")]) == expected


@pytest.mark.requirement("RS6", "TK8")
async def test_who_listens_is_let_go_with_the_grant_and_after_a_day_in_any_case(
    autojump_clock: trio.testing.MockClock,
) -> None:
    deployment = Deployment()
    ended: dict[str, float] = {}

    async def listen(grant_id: str) -> None:
        await deployment.bearer.wait_withdrawn(grant_id)
        ended[grant_id] = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, "revoked")
        nursery.start_soon(listen, "kept")
        await trio.sleep(3600)
        deployment.revocations.add("revoked")
    assert ended == {"revoked": 3600, "kept": LISTENING_LIFETIME}


@pytest.mark.requirement("RS1", "RS3", "RS6")
def test_without_an_authorization_header_nothing_counts_as_credentials() -> None:
    deployment = Deployment()
    token = issued(deployment).encode()
    for headers in (
        (),
        ((b"cookie", b"token=" + token),),
        ((b"mcp-session-id", token),),
        ((b"x-authorization", token),),
    ):
        answer = refusal(deployment, *headers)
        assert answer.status == 401
        assert "error=" not in dict(answer.headers)["www-authenticate"]


@pytest.mark.requirement("RS3")
def test_two_authorization_headers_are_a_bad_request() -> None:
    deployment = Deployment()
    header = (b"authorization", b"Bearer " + issued(deployment).encode())
    assert refusal(deployment, header, header).status == 400


@pytest.mark.requirement("RS4")
def test_a_token_for_another_resource_or_of_another_issuer_is_not_ours() -> None:
    deployment = Deployment()
    for changes in (
        {"resource": ISSUER},
        {"resource": ISSUER + "/mcp/"},
        {"resource": ISSUER + "/other/mcp"},
        {"issuer": ISSUER + "/"},
        {"issuer": "https://other.example"},
    ):
        assert status(deployment, issued(deployment, **changes)) == 401
    assert status(deployment, issued(Deployment())) == 200


@pytest.mark.requirement("RS4")
async def test_no_other_token_of_the_flow_is_an_access_token() -> None:
    deployment = Deployment()
    client, browser = await deployment.register(), Browser(deployment)
    page = await browser.to_consent(client)
    cookies = tuple(browser.jar.values())
    assert len(cookies) == 2  # of the flow, and of the person who logged in for it
    code = (await Browser(deployment).obtain_answer(client))["code"]
    tokens = await deployment.tokens(client)
    assert page.status == 200
    for text in (*cookies, code, tokens["refresh_token"], client["client_id"]):
        for prefix in ("", "mcpa_at_"):
            assert status(deployment, prefix + text.removeprefix("mcpa_rt_").removeprefix("mcpa_ac_")) == 401
    assert status(deployment, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2ln") == 401
    assert status(deployment, tokens["access_token"]) == 200


@pytest.mark.requirement("RS1")
def test_a_token_without_our_scope_is_forbidden() -> None:
    deployment = Deployment()
    assert status(deployment, issued(deployment, scope="other")) == 403


@pytest.mark.requirement("RS1")
def test_a_token_ends_on_time_even_when_it_is_remembered() -> None:
    deployment = Deployment()
    token = issued(deployment, expires_at=START + 50)
    deployment.clock.pass_by(49)
    assert status(deployment, token) == 200
    deployment.clock.pass_by(1)
    assert status(deployment, token) == 401
    assert "0 tokens known" in repr(deployment.bearer)


@pytest.mark.requirement("RS1")
def test_a_revoked_grant_drops_its_tokens_at_once() -> None:
    deployment = Deployment()
    token, other = issued(deployment), issued(deployment, grant_id="g2")
    assert (status(deployment, token), status(deployment, other)) == (200, 200)
    deployment.revocations.add("g1")
    assert (status(deployment, token), status(deployment, other)) == (401, 200)


def test_only_good_tokens_are_remembered_and_only_so_many() -> None:
    deployment = Deployment()
    for n in range(MAX_OPENED + 2):
        assert status(deployment, issued(deployment, grant_id=f"g{n}")) == 200
        assert status(deployment, f"nonsense{n}") == 401
    assert f"[{MAX_OPENED} tokens known]" in repr(deployment.bearer)


def test_spellings_of_a_header_do_not_fill_the_memory() -> None:
    deployment = Deployment()
    token = issued(deployment).encode()
    for spaces in range(2, 50):
        header = (b"authorization", b"Bearer" + b" " * spaces + token)
        assert deployment.bearer.authenticate([header]).grant_id == "g1"
    assert "[0 tokens known]" in repr(deployment.bearer)
    deployment.clock.pass_by(901)
    assert refusal(deployment, (b"authorization", b"Bearer  " + token)).status == 401


def test_a_minute_without_the_store_nobody_is_let_in_and_told_to_come_back() -> None:
    deployment = Deployment()
    token = issued(deployment)
    deployment.clock.pass_by(60)
    assert status(deployment, token) == 200
    deployment.clock.pass_by(1)
    answer = refusal(deployment, (b"authorization", b"Bearer " + token.encode()))
    assert (answer.status, dict(answer.headers)["retry-after"]) == (503, "5")
    assert status(deployment, "nonsense") == 401


@pytest.mark.requirement("RS1")
def test_a_token_of_a_dropped_key_is_401_even_if_it_was_just_accepted() -> None:
    deployment = Deployment(keys=KeyRing([bytes(range(32))]))
    token = issued(deployment)
    assert status(deployment, token) == 200
    deployment.keys.replace([bytes(32), bytes(range(32))])
    assert status(deployment, token) == 200
    deployment.keys.replace([bytes(32)])
    assert status(deployment, token) == 401


_FIXED = Deployment()
_TOKEN = issued(_FIXED)


@pytest.mark.requirement("RS1", "RS4")
@given(st.integers(0, len(_TOKEN) - 1), st.binary(min_size=0, max_size=3))
def test_any_altered_token_is_401(at: int, change: bytes) -> None:
    altered = b"Bearer " + _TOKEN[:at].encode() + change + _TOKEN[at + 1 :].encode()
    if altered == b"Bearer " + _TOKEN.encode():
        return
    assert refusal(_FIXED, (b"authorization", altered)).status == 401


@pytest.mark.requirement("RS1")
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_any_header_is_401(value: bytes) -> None:
    for header in (value, b"Bearer " + value, b"Bearer mcpa_at_" + value):
        assert refusal(_FIXED, (b"authorization", header)).status == 401
