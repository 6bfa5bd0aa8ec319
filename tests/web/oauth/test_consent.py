"""``/consent``: the person decides, every time, in the browser in which they logged in."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.oauth.redirects import parse_redirect_uri
from aggregator.protocol.principal import Person, Principal

from ..deployment import (
    ANNA,
    BEN,
    CALLBACK,
    FROM_OWN_PAGE,
    ISSUER,
    LOOPBACK,
    PROVIDER,
    Browser,
    Deployment,
    Flaky,
    header,
    hidden_fields,
    location,
    query_of,
    text_of,
)


@pytest.mark.requirement("CO2")
async def test_the_page_names_client_destination_account_and_what_it_gets() -> None:
    deployment = Deployment()
    page = text_of(await Browser(deployment).to_consent(await deployment.register(client_name="Acme Chat")))
    for words in ("calls itself", "Acme Chat", "<strong>client.example</strong>", "anna@example.com", "every tool"):
        assert words in page


@pytest.mark.requirement("CO2")
async def test_an_app_on_this_computer_is_called_that_with_a_warning() -> None:
    deployment = Deployment()
    page = text_of(await Browser(deployment).to_consent(await deployment.register(LOOPBACK, client_name="")))
    for words in (
        "an app on this computer",
        "127.0.0.1:50123",
        "Any program on this computer",
        "does not give its name",
    ):
        assert words in page


@pytest.mark.requirement("CO3", "AZ14", "AZ15")
async def test_the_page_cannot_be_framed_scripted_or_left_with_a_referrer() -> None:
    deployment = Deployment()
    page = await Browser(deployment).to_consent(await deployment.register())
    policy = header(page, "content-security-policy")
    assert policy is not None
    for directive in ("default-src 'none'", "script-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert directive in policy
    assert "form-action 'self' https://client.example;" in policy
    assert header(page, "x-frame-options") == "DENY"
    assert header(page, "referrer-policy") == "no-referrer"
    assert header(page, "x-content-type-options") == "nosniff"
    assert header(page, "cache-control") == "no-store"
    assert header(page, "permissions-policy") is not None


async def test_the_page_may_be_reloaded() -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    page = await browser.to_consent(await deployment.register())
    again = await browser.get("/consent?flow=" + hidden_fields(page)["flow"])
    assert again.body == page.body
    assert "code" in query_of(location(await browser.decide(again)))


@pytest.mark.requirement("CO1", "AZ9", "AZ10", "AZ11")
async def test_allow_answers_303_with_code_state_and_issuer() -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    client = await deployment.register()
    response = await browser.decide(await browser.to_consent(client, state="ü %&=+/?#\"'"))
    assert response.status == 303
    assert location(response).startswith(CALLBACK + "?")
    answer = query_of(location(response))
    assert set(answer) == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == ("ü %&=+/?#\"'", ISSUER)
    assert header(response, "referrer-policy") == "no-referrer"
    assert browser.flows == {}


@pytest.mark.requirement("AZ10", "AZ11")
async def test_cancel_answers_access_denied_and_grants_nothing() -> None:
    deployment = Deployment()
    answer = await Browser(deployment).obtain_answer(await deployment.register(), decision="cancel")
    assert answer["error"] == "access_denied"
    assert (answer["state"], answer["iss"]) == ("client state", ISSUER)
    assert "code" not in answer
    assert await deployment.store.grants_of(ANNA.principal) == ()


async def test_a_query_in_the_registered_uri_is_kept() -> None:
    deployment = Deployment()
    client = await deployment.register("https://client.example/cb?tenant=a%20b")
    browser = Browser(deployment)
    response = await browser.decide(await browser.to_consent(client))
    assert location(response).startswith("https://client.example/cb?tenant=a%20b&code=")


@pytest.mark.requirement("CO3")
@pytest.mark.parametrize(
    "changes", [{"csrf": ""}, {"csrf": "x"}, {"csrf": "ü"}, {"flow": ""}, {"flow": "x" * 32}, {"decision": "maybe"}]
)
async def test_a_form_that_is_not_of_this_page_decides_nothing(changes: dict[str, str]) -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    page = await browser.to_consent(await deployment.register())
    response = await browser.post("/consent", hidden_fields(page) | {"decision": "allow"} | changes, *FROM_OWN_PAGE)
    assert response.status in (400, 403)
    assert header(response, "location") is None
    assert "code" in query_of(location(await browser.decide(page)))


@pytest.mark.requirement("CO3")
async def test_the_token_of_one_flow_does_not_decide_another() -> None:
    deployment = Deployment()
    client, browser = await deployment.register(), Browser(deployment)
    one = hidden_fields(await browser.to_consent(client))
    other = hidden_fields(await browser.to_consent(client))
    form = {"flow": one["flow"], "csrf": other["csrf"], "decision": "allow"}
    assert (await browser.post("/consent", form, *FROM_OWN_PAGE)).status == 403


@pytest.mark.requirement("CO3")
@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ((), True),
        ((("origin", ISSUER),), True),
        ((("origin", "null"), ("sec-fetch-site", "same-origin")), True),
        ((("origin", ISSUER), ("sec-fetch-site", "same-origin")), True),
        ((("origin", "https://evil.example"),), False),
        ((("origin", "https://mcp.example.com.evil.example"),), False),
        ((("origin", "http://mcp.example.com"),), False),
        ((("origin", ISSUER), ("sec-fetch-site", "cross-site")), False),
        ((("origin", "null"), ("sec-fetch-site", "same-site")), False),
        ((("sec-fetch-site", "none"),), False),
    ],
)
async def test_a_form_sent_from_another_site_decides_nothing(
    headers: tuple[tuple[str, str], ...], accepted: bool
) -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    page = await browser.to_consent(await deployment.register())
    response = await browser.post("/consent", hidden_fields(page) | {"decision": "allow"}, *headers)
    assert response.status == (303 if accepted else 403)


async def test_a_question_is_answered_once() -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    page = await browser.to_consent(await deployment.register())
    jar = dict(browser.jar)
    await browser.decide(page, "cancel")
    assert (await browser.decide(page)).status == 403
    browser.jar = jar
    assert (await browser.decide(page)).status == 400
    assert await deployment.store.grants_of(ANNA.principal) == ()


@pytest.mark.requirement("CO5")
async def test_a_question_belongs_to_the_browser_of_the_login_and_ends_after_ten_minutes() -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    page = await browser.to_consent(await deployment.register())
    assert (await Browser(deployment).decide(page)).status == 403
    assert (await Browser(deployment).get("/consent?flow=" + hidden_fields(page)["flow"])).status == 403
    deployment.clock.pass_by(600)
    assert (await browser.decide(page)).status == 403


@pytest.mark.requirement("CO4")
async def test_a_question_is_answered_under_its_own_name_only() -> None:
    """A cookie that somebody managed to rename, or to put beside another, is none."""
    deployment = Deployment()
    browser = Browser(deployment)
    page = await browser.to_consent(await deployment.register())
    [(name, question)] = browser.flows.items()
    other = "x" * len(hidden_fields(page)["flow"])
    browser.jar[name.replace(hidden_fields(page)["flow"], other)] = question
    assert (await browser.get("/consent?flow=" + other)).status == 403
    form = hidden_fields(page) | {"flow": other, "decision": "allow"}
    assert (await browser.post("/consent", form, *FROM_OWN_PAGE)).status == 403
    assert await deployment.store.grants_of(ANNA.principal) == ()


async def test_a_login_in_progress_is_no_question_yet() -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    state = query_of(location(await browser.begin(await deployment.register())))["state"]
    assert (await browser.get("/consent?flow=" + state)).status == 403


@pytest.mark.requirement("CO1", "CO6", "AZ18")
async def test_every_authorization_asks_again_so_nothing_remembered_can_be_stale() -> None:
    """No consent is remembered, hence none outlives changed metadata, and each (person, client) asks for itself."""
    deployment = Deployment()
    client, browser = await deployment.register(), Browser(deployment)
    await browser.obtain_answer(client)
    for person in (ANNA, BEN):
        page = await browser.to_consent(client, person)
        assert page.status == 200
        assert "Allow access?" in text_of(page)


@pytest.mark.requirement("AZ18")
async def test_a_cross_site_navigation_with_an_earlier_approval_still_stops_at_the_page() -> None:
    deployment = Deployment()
    client, browser = await deployment.register(), Browser(deployment)
    await browser.obtain_answer(client)
    login = await browser.get(
        "/authorize?" + location(await browser.begin(client)).partition("?")[2], ("sec-fetch-site", "cross-site")
    )
    assert login.status == 400
    page = await browser.to_consent(client)
    assert header(page, "location") is None


@pytest.mark.requirement("CO1", "CO7")
async def test_a_grant_is_remembered_with_its_client_and_can_be_listed_and_revoked() -> None:
    """The account page comes later; what it needs is here: `grants_of` and `revoke_grant`."""
    deployment = Deployment()
    client = await deployment.register(client_name="Acme Chat")
    tokens = await deployment.tokens(client)
    [grant] = await deployment.store.grants_of(ANNA.principal)
    assert (grant.client_name, grant.redirect_uri, grant.label) == ("Acme Chat", CALLBACK, "anna@example.com")
    assert await deployment.store.grants_of(BEN.principal) == ()
    assert await deployment.store.revoke_grant(grant.id, now=deployment.clock())
    assert await deployment.store.grants_of(ANNA.principal) == ()
    assert (await deployment.refresh(client, tokens["refresh_token"])).status == 400


async def test_without_the_store_nothing_is_granted_and_the_person_reads_so() -> None:
    store = Flaky(Deployment().store)
    deployment = Deployment(store=store)
    browser = Browser(deployment)
    page = await browser.to_consent(await deployment.register())
    store.away = True
    response = await browser.decide(page)
    assert (response.status, header(response, "location")) == (503, None)
    store.away = False
    assert (await browser.decide(page)).status == 303


class _Texts(HTMLParser):
    """All text of a page, and every element and attribute in it."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _parsed(deployment: Deployment, name: str, account: str) -> _Texts:
    redirect = parse_redirect_uri(CALLBACK)
    page = deployment.pages.consent(redirect=redirect, client_name=name, account=account, flow="f", csrf="c")
    texts = _Texts()
    texts.feed(page.body.decode())
    return texts


_PAGES = Deployment()
_WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), min_size=1)


@pytest.mark.requirement("AP6")
@pytest.mark.requirement("MD4", "CO2")
@given(_WORDS, _WORDS)
def test_any_name_and_account_stand_on_the_page_as_text_and_nothing_else(name: str, account: str) -> None:
    plain, texts = _parsed(_PAGES, "name", "account"), _parsed(_PAGES, name, account)
    assert texts.tags == plain.tags
    assert name in texts.text
    assert account in texts.text


async def test_a_person_without_a_label_is_shown_by_subject() -> None:
    deployment = Deployment()
    nobody = Person(Principal(PROVIDER, "sub-0815"), "\u202e")
    assert "sub-0815" in text_of(await Browser(deployment).to_consent(await deployment.register(), nobody))
