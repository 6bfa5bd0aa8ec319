"""Clients that do not register: those of a metadata document, those of the configuration, and apps' own schemes."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from aggregator.config.model import KnownClient, Secret
from aggregator.errors import Refusal
from aggregator.protocol.learned_url import LearnedUrl
from aggregator.protocol.oauth.registration import Client
from aggregator.web.oauth.clients import is_on_loopback

from ..deployment import (
    ANNA,
    CALLBACK,
    FROM_OWN_PAGE,
    ISSUER,
    LOOPBACK,
    Browser,
    Deployment,
    config,
    has_form,
    header,
    hidden_fields,
    location,
    query_of,
    read,
    text_of,
)

URL = "https://client.example/oauth/id.json"
CURSOR = "cursor://anysphere.cursor-mcp/oauth/callback"


@pytest.mark.requirement("CI1", "CI2")
async def test_a_client_that_is_a_url_goes_the_whole_way_and_its_document_is_read_for_the_login_only() -> None:
    deployment = Deployment()
    client = deployment.documents.publish(URL)
    tokens = await deployment.tokens(client)
    assert deployment.authenticate(tokens["access_token"]).principal == ANNA.principal
    renewed = read(await deployment.refresh(client, tokens["refresh_token"]))
    revoked = await deployment.post("/revoke", {"client_id": URL, "token": renewed["refresh_token"]})
    assert revoked.status == 200
    assert (await deployment.refresh(client, renewed["refresh_token"])).status == 400
    assert deployment.documents.asked == [URL]
    assert await deployment.store.grants_of(ANNA.principal) == ()


@pytest.mark.requirement("MD2")
async def test_a_server_that_reads_no_documents_says_so_and_fetches_none() -> None:
    deployment = Deployment(client_documents=False)
    metadata = read(await deployment.send("GET", "/.well-known/oauth-authorization-server"))
    assert "client_id_metadata_document_supported" not in metadata
    response = await Browser(deployment).begin(deployment.documents.publish(URL))
    assert response.status == 400
    assert "reads no metadata documents" in text_of(response)
    assert deployment.documents.asked == []


async def test_a_token_of_one_url_is_no_other_clients() -> None:
    deployment = Deployment()
    one = deployment.documents.publish(URL)
    other = deployment.documents.publish("https://other.example/id.json")
    tokens = await deployment.tokens(one)
    assert read(await deployment.refresh(other, tokens["refresh_token"]))["error"] == "invalid_grant"
    code = (await Browser(deployment).obtain_answer(one))["code"]
    assert read(await deployment.redeem(other, code))["error"] == "invalid_grant"
    assert read(await deployment.redeem({"client_id": URL + "#"}, code))["error"] == "invalid_client"
    assert (await deployment.redeem(one, code)).status == 200


@pytest.mark.requirement("CI1")
async def test_a_public_client_cannot_be_given_a_secret() -> None:
    """Whoever sends one along is not proven by it; the client stays what its document says, a public one."""
    deployment = Deployment()
    client = deployment.documents.publish(URL)
    code = (await Browser(deployment).obtain_answer(client))["code"]
    assert (await deployment.redeem(client, code, client_secret="anything")).status == 200


@pytest.mark.requirement("CO2", "MD4")
async def test_the_page_names_the_host_that_describes_the_client() -> None:
    deployment = Deployment()
    client = deployment.documents.publish(URL, client_name="<b>Claude</b>", logo_uri="https://logo.example/x.png")
    page = await Browser(deployment).to_consent(client)
    text = text_of(page)
    for words in ("calls itself", "&lt;b&gt;Claude&lt;/b&gt;", "described by", "<strong>client.example</strong>"):
        assert words in text
    assert "logo.example" not in text
    registered = await deployment.register()
    assert "described by" not in text_of(await Browser(deployment).to_consent(registered))


@pytest.mark.requirement("CO2")
async def test_a_described_client_on_this_computer_is_as_little_proven_as_any() -> None:
    deployment = Deployment()
    client = deployment.documents.publish(URL, redirect_uris=["http://127.0.0.1/cb"], client_name="")
    text = text_of(await Browser(deployment).to_consent(client, redirect_uri=LOOPBACK))
    for words in (
        "client.example",
        "an app on this computer",
        "Any program on this computer",
        "does not give its name",
    ):
        assert words in text


@pytest.mark.requirement("CI1", "AZ1")
async def test_the_redirect_uri_must_stand_in_the_document() -> None:
    deployment = Deployment()
    client = deployment.documents.publish(URL)
    response = await Browser(deployment).begin(client, redirect_uri="https://client.example/other")
    assert response.status == 400
    assert header(response, "location") is None
    assert "not one that the client registered" in text_of(response)


@pytest.mark.requirement("CO6")
async def test_a_changed_document_counts_at_the_next_login() -> None:
    deployment = Deployment()
    client = deployment.documents.publish(URL, client_name="Before")
    tokens = await deployment.tokens(client)
    changed = deployment.documents.publish(URL, client_name="After", redirect_uris=["https://new.example/cb"])
    assert (await Browser(deployment).begin(client)).status == 400
    page = text_of(await Browser(deployment).to_consent(changed))
    assert "After" in page
    assert "<strong>new.example</strong>" in page
    assert (await deployment.refresh(client, tokens["refresh_token"])).status == 200


@pytest.mark.requirement("CI1", "CI2", "AZ1")
async def test_every_reason_not_to_have_a_document_looks_alike_outside(caplog: pytest.LogCaptureFixture) -> None:
    deployment = Deployment()
    documents: list[Any] = [{"client_id": "https://other.example/"}, [], {}]
    urls = [f"https://host{number}.internal/id" for number in range(len(documents) + 1)]
    deployment.documents.documents = dict(zip(urls, documents, strict=False))
    pages = []
    for url in urls:
        response = await Browser(deployment).begin({"client_id": url, "redirect_uris": [CALLBACK]})
        assert (response.status, header(response, "location")) == (400, None)
        pages.append(response.body)
    assert len(set(pages)) == 1
    assert b"10.0.0.1" not in pages[0]
    assert b"internal" not in pages[0]
    assert not has_form(response)
    assert "host3.internal/id is 10.0.0.1, which is not on the public internet" in caplog.text
    assert "request request-1" in caplog.text


async def test_what_is_wrong_with_a_clients_own_document_is_said() -> None:
    deployment = Deployment()
    client = deployment.documents.publish(URL, client_secret="canary")
    response = await Browser(deployment).begin(client)
    assert response.status == 400
    assert "its metadata document holds client_secret" in text_of(response)
    assert "canary" not in text_of(response)


@pytest.mark.requirement("CI1")
@pytest.mark.parametrize(
    "url", ["https://client.example", "https://a@client.example/id", "https://client.example/../id"]
)
async def test_a_url_that_can_be_no_client_id_is_not_fetched(url: str) -> None:
    deployment = Deployment()
    response = await Browser(deployment).begin({"client_id": url, "redirect_uris": [CALLBACK]})
    assert response.status == 400
    assert "client id cannot be used" in text_of(response)
    assert deployment.documents.asked == []


async def test_a_client_that_asks_too_often_is_told_when_to_come_back() -> None:
    deployment = Deployment()

    async def too_often(url: LearnedUrl) -> Client:
        raise Refusal(429, "temporarily_unavailable", "Too many.", headers=(("retry-after", "6"),))

    deployment.documents.find = too_often  # type: ignore[method-assign]
    response = await Browser(deployment).begin({"client_id": URL, "redirect_uris": [CALLBACK]})
    assert (response.status, header(response, "retry-after")) == (429, "6")
    assert "Wait a moment" in text_of(response)


@pytest.mark.parametrize(
    ("issuer_url", "own"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1:3000/x", True),
        ("http://[::1]:3000", True),
        ("https://localhost", True),
        ("https://mcp.example.com", False),
        ("http://127.0.0.2", False),
        ("https://localhost.example.com", False),
        ("https://10.0.0.1", False),
    ],
)
@pytest.mark.requirement("CI2")
def test_only_a_deployment_on_loopback_fetches_from_loopback(issuer_url: str, own: bool) -> None:
    assert is_on_loopback(config(issuer_url=issuer_url)) is own


PUBLIC = KnownClient("desktop", "Desktop of the team", ("http://127.0.0.1/cb",))
CONFIDENTIAL = KnownClient("web", "Web", (CALLBACK,), Secret("a secret of the web client"))


def known(client: KnownClient) -> dict[str, Any]:
    return {"client_id": client.client_id, "redirect_uris": client.redirect_uris}


async def test_a_client_of_the_configuration_logs_in_without_registering() -> None:
    deployment = Deployment(clients=(PUBLIC,))
    page = await Browser(deployment).to_consent(known(PUBLIC), redirect_uri=LOOPBACK)
    assert "Desktop of the team" in text_of(page)
    assert "operator has set up" in text_of(page)
    assert "own claim" not in text_of(page)
    assert "Any program on this computer" in text_of(page)
    tokens = await deployment.tokens(known(PUBLIC))
    assert (await deployment.refresh(known(PUBLIC), tokens["refresh_token"])).status == 200


@pytest.mark.requirement("TK5")
async def test_a_client_with_a_secret_proves_it_in_either_way() -> None:
    deployment = Deployment(clients=(CONFIDENTIAL,))
    browser = Browser(deployment)
    code = (await browser.obtain_answer(known(CONFIDENTIAL)))["code"]
    for secret in ({}, {"client_secret": "wrong"}, {"client_secret": ""}):
        refused = await deployment.redeem(known(CONFIDENTIAL), code, **secret)
        assert (refused.status, read(refused)["error"]) == (401, "invalid_client")
    tokens = read(await deployment.redeem(known(CONFIDENTIAL), code, client_secret="a secret of the web client"))
    basic = ("authorization", "Basic d2ViOmErc2VjcmV0K29mK3RoZSt3ZWIrY2xpZW50")
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert (await deployment.post("/token", form, basic)).status == 200


@pytest.mark.requirement("AZ2")
async def test_its_redirect_uris_are_as_exact_as_any() -> None:
    deployment = Deployment(clients=(CONFIDENTIAL,))
    assert (await Browser(deployment).begin(known(CONFIDENTIAL), redirect_uri=CALLBACK + "/")).status == 400


async def test_a_url_that_is_set_up_is_not_fetched() -> None:
    client = KnownClient(URL, "Known", (CALLBACK,))
    deployment = Deployment(clients=(client,))
    assert "operator has set up" in text_of(await Browser(deployment).to_consent(known(client)))
    await deployment.tokens(known(client))
    assert deployment.documents.asked == []


@pytest.mark.requirement("AZ4")
async def test_an_apps_own_scheme_is_refused_where_it_is_not_listed() -> None:
    body = json.dumps({"redirect_uris": [CURSOR]}).encode()
    response = await Deployment().send("POST", "/register", (("content-type", "application/json"),), body)
    assert (response.status, read(response)["error"]) == (400, "invalid_redirect_uri")
    assert "the scheme cursor is not accepted" in read(response)["error_description"]
    deployment = Deployment()
    assert (await Browser(deployment).begin(deployment.documents.publish(URL, redirect_uris=[CURSOR]))).status == 400


@pytest.mark.requirement("AZ4", "AZ9", "CO2")
@pytest.mark.parametrize(("decision", "title"), [("allow", "Access allowed"), ("cancel", "Access not allowed")])
async def test_an_app_with_a_scheme_gets_its_answer_by_a_button(decision: str, title: str) -> None:
    """A redirect would leave the question on the screen, as if nothing had happened."""
    deployment = Deployment(client_schemes=("cursor",))
    browser = Browser(deployment)
    question = await browser.to_consent(await deployment.register(CURSOR))
    assert "an app on this computer" in text_of(question)
    assert "cursor://anysphere.cursor-mcp" in text_of(question)
    assert "form-action 'self' cursor:;" in (header(question, "content-security-policy") or "")
    page = await browser.decide(question, decision)
    assert page.status == 200
    assert title in text_of(page)
    assert "code=" not in text_of(page)
    assert "cursor:" not in text_of(page)
    assert "form-action 'self' cursor:;" in (header(page, "content-security-policy") or "")
    assert browser.flows == {}
    handed = await browser.post("/authorize/return", hidden_fields(page), *FROM_OWN_PAGE)
    assert handed.status == 303
    assert location(handed).startswith(CURSOR + "?")
    answer = query_of(location(handed))
    assert answer["iss"] == ISSUER
    assert ("code" in answer) is (decision == "allow")


@pytest.mark.requirement("AZ4")
async def test_the_code_of_an_app_with_a_scheme_works() -> None:
    deployment = Deployment(clients=(KnownClient("cursor", "Cursor", (CURSOR,)),))
    client = {"client_id": "cursor", "redirect_uris": [CURSOR]}
    browser = Browser(deployment)
    page = await browser.decide(await browser.to_consent(client))
    handed = await browser.post("/authorize/return", hidden_fields(page), *FROM_OWN_PAGE)
    assert (await deployment.redeem(client, query_of(location(handed))["code"])).status == 200


@pytest.mark.requirement("AZ4", "AZ19")
async def test_an_error_for_an_app_with_a_scheme_waits_for_a_click() -> None:
    deployment = Deployment(client_schemes=("cursor",))
    response = await Browser(deployment).begin(await deployment.register(CURSOR), response_type="token")
    assert response.status == 400
    assert header(response, "location") is None
    assert "Return to the app on this computer" in text_of(response)


@pytest.mark.requirement("RS5")
async def test_a_configured_secret_is_in_no_log_and_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    deployment = Deployment(clients=(CONFIDENTIAL,))
    refused = await deployment.redeem(known(CONFIDENTIAL), "x", client_secret="a secret of the web client")
    assert b"a secret" not in refused.body
    assert "a secret" not in caplog.text + repr(deployment.config)
