"""The official client suite, with the aggregator as the client: how people's accounts at upstreams are connected.

Each scenario gets an aggregator of its own in front of the suite's server, a person who logs in, connects what wants
to be connected, and calls every tool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urljoin

import httpx2
import pytest
import trio

from aggregator.config.model import Account, Config, Secret, Upstream
from aggregator.server import serve
from tests.parts.browser import LoginStuck, Page, open_browser, walk_login
from tests.parts.conformance import REVISIONS, Revision, SuiteRun
from tests.parts.conformance_clients import Given, required_client_scenarios, run_client_suite
from tests.parts.login import log_in
from tests.parts.processes import PATIENCE, free_port
from tests.parts.servers import open_oidc_provider

from .asking import Asking, text_of
from .deployment import config_of

pytestmark = pytest.mark.live

WITHIN = 1200  # seconds for both revisions; it takes 40 on two idle cores
AT_ONCE = 3
MOST_CONNECTS = 4  # more than any scenario wants of a person
# A warning: the suite wants to see its own URL as the client id. Ours is below the issuer URL, and here that is on
# loopback, where nobody could fetch a document; tests/upstream/oauth/test_begin.py shows it where somebody could.
UNFIT = {("auth/basic-cimd", "cimd-client-id-used")}
# What must have been looked at, lest a client that does nothing pass: checks that scenarios share, and their own.
_BOTH = frozenset(
    "tool-add-numbers valid-bearer-token pkce-verifier-matches-challenge pkce-s256-method-used pre-registration-auth "
    "resource-parameter-matches-prm resource-parameter-in-token resource-parameter-in-authorization "
    "scope-from-scopes-supported scope-from-www-authenticate scope-omitted-when-undefined scope-retry-limit "
    "scope-step-up-initial scope-step-up-escalation token-endpoint-auth-method".split()
)
_MODERN = frozenset(
    "resource-mismatch-rejected sep-2207-offline-access-requested sep-2207-offline-access-not-requested "
    "sep-2350-scope-union-on-reauth sep-2352-reregister-on-as-change sep-2352-no-reuse-on-as-change "
    "sep-2468-client-compare-iss-supported sep-2468-client-compare-iss-unadvertised sep-2468-client-no-normalization "
    "sep-2468-client-proceed-no-iss sep-2468-client-reject-missing-iss sep-2468-client-validate-metadata-issuer "
    "sep-837-application-type-present".split()
)
SEEN: dict[Revision, frozenset[str]] = {"2025-11-25": _BOTH, "2026-07-28": _BOTH | _MODERN}
# Before there was metadata of resources; no revision of today requires these two of clients.
OLDEST = "2025-03-26"
OLDEST_SCENARIOS = ("auth/2025-03-26-oauth-metadata-backcompat", "auth/2025-03-26-oauth-endpoint-fallback")
NEUTRAL = ("tools_call",)  # beside those of `auth/`: what a client of any transport does


def scenarios_of(revision: Revision) -> tuple[str, ...]:
    return tuple(each for each in required_client_scenarios(revision) if each.startswith("auth/") or each in NEUTRAL)


@pytest.fixture(scope="module")
def measured() -> dict[str, SuiteRun]:
    return trio.run(measure)


async def measure() -> dict[str, SuiteRun]:
    asked: dict[str, Sequence[str]] = {revision: scenarios_of(revision) for revision in REVISIONS}
    return await measure_scenarios(asked | {OLDEST: OLDEST_SCENARIOS})


async def measure_scenarios(asked: Mapping[str, Sequence[str]]) -> dict[str, SuiteRun]:
    runs: dict[str, SuiteRun] = {}
    # The identity provider must know each aggregator's redirect URI before it starts.
    ports = [free_port() for scenarios in asked.values() for _ in scenarios]
    with trio.fail_after(WITHIN):
        async with open_oidc_provider(*(f"http://127.0.0.1:{port}/callback" for port in ports)) as issuer:

            async def client(given: Given) -> str:
                return await use_everything(given, issuer, ports.pop())

            for revision, scenarios in asked.items():
                runs[revision] = await run_client_suite(revision, scenarios, client, at_once=AT_ONCE)
    return runs


async def use_everything(given: Given, issuer: str, port: int) -> str:
    """Log in, connect, list, call each tool, and connect again whenever that is what an answer says."""
    secret = given.context.get("client_secret")
    account = Account(given.context.get("client_id"), Secret(secret) if secret else None)
    upstream = Upstream("up", given.url, "", account=account, discovery_timeout=PATIENCE)
    config = replace(config_of(issuer, port, {}), upstreams=(upstream,))
    told: list[str] = []
    failure: AssertionError | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_serve, config)
        try:
            await _use(config.issuer_url, told)
        except AssertionError as exc:
            failure = exc
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise AssertionError("\n".join([*told, str(failure)])) from failure
    return "\n".join(told)


async def _use(url: str, told: list[str]) -> None:
    async with open_browser() as browser, httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        tokens = (await log_in(http, f"{url}/mcp", browser=browser)).tokens
        asking = Asking(f"{url}/mcp", tokens["access_token"], http)
        connects = 0
        while connects < 2 and not await own_tools(asking):  # twice where the upstream changes its mind
            connects += 1
            told.append(await connect(browser, url))
        for tool in await own_tools(asking):
            arguments = {"a": 5, "b": 3} if tool == "add_numbers" else {}
            while True:
                result = await asking.call(tool, **arguments)
                told.append(f"{tool}: {text_of(result)}")
                if not result.get("isError") or "/connect/up" not in text_of(result) or connects == MOST_CONNECTS:
                    break
                connects += 1
                told.append(await connect(browser, url))


async def own_tools(asking: Asking) -> list[str]:
    return [name for name in await asking.tools() if not name.startswith("gateway__")]


async def connect(browser: httpx2.AsyncClient, url: str) -> str:
    """Open the link, press the button, go where it leads and come back; what the last page is headed."""
    start = f"{url}/connect/up"
    try:
        page = await browser.get(start)
        if page.has_redirect_location:
            page = await browser.get(await walk_login(start, start, browser=browser))
        form = next(form for form in Page(page.text).forms if form.action.endswith("/connect/up"))
        fields = {name: value for _, name, value in form.fields}
        going = await browser.post(urljoin(start, form.action), data=fields, headers={"origin": url})
        away = [link for link in Page(going.text).links if not link.startswith(("/", url))]
        if not away:
            return f"{going.status_code}: {heading(going.text)}"
        answer = await browser.get(away[0])
        assert answer.has_redirect_location, f"the authorization server answered {answer.status_code}: {answer.text}"
        landed = await browser.get(answer.headers["location"], follow_redirects=True)
    except (LoginStuck, StopIteration) as exc:
        raise AssertionError(f"no way to connect: {exc}") from exc
    return f"{landed.status_code}: {heading(landed.text)}"


def heading(html: str) -> str:
    main = re.search(r"(?s)<main.*?</main>", html)
    return " ".join(re.sub(r"<[^>]*>", " ", main[0] if main else html).split())[:400]


async def _serve(config: Config, *, task_status: trio.TaskStatus[list[str]]) -> None:
    await serve(config, task_status=task_status)


@pytest.mark.requirement("UP1", "UP2", "UP3", "UP4", "UP5", "UP6", "UP11")
@pytest.mark.parametrize("revision", REVISIONS)
def test_every_required_scenario_of_authorization_passes(measured: dict[str, SuiteRun], revision: Revision) -> None:
    run = measured[revision]
    failing = {(check.scenario, check.id) for check in run.checks if not check.passed}
    assert failing == UNFIT, "\n".join(str(check) for check in run.checks if not check.passed) + run.output[-6000:]
    assert {check.scenario for check in run.checks} == set(scenarios_of(revision))
    assert len(scenarios_of(revision)) == {"2025-11-25": 15, "2026-07-28": 26}[revision]
    assert {check.id for check in run.checks if check.status == "SUCCESS"} >= SEEN[revision]


def test_servers_without_metadata_of_their_resource_are_found(measured: dict[str, SuiteRun]) -> None:
    run = measured[OLDEST]
    assert (run.failing(), run.exit_code) == ({}, 0), run.output[-6000:]
    assert {check.scenario for check in run.checks} == set(OLDEST_SCENARIOS)
