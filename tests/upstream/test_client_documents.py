"""Metadata documents of clients: one fetch at a time, kept within bounds, and never often."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aggregator.errors import Refusal, Unfetchable
from aggregator.protocol.learned_url import LearnedUrl, parse_learned_url
from aggregator.protocol.oauth.registration import Client
from aggregator.upstream.client_documents import HOST_BURST, HOST_INTERVAL, MAX_KEPT, TOTAL_BURST, ClientDocuments
from aggregator.upstream.network.learned_http import Answer, LearnedHttp, open_learned_http
from tests.fakes.https import Authority, make_authority, open_https_server

URL = "https://client.example/id.json"


class FakeHttp(LearnedHttp):
    """Strangers' documents by URL. Each fetch takes a second."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any] | bytes] = {}
        self.cache_control = "max-age=600"
        self.fetched: list[str] = []

    def publish(self, url: str = URL, **changes: Any) -> None:
        self.documents[url] = {"client_id": url, "client_name": "C", "redirect_uris": ["https://c.example/"], **changes}

    async def fetch_json(self, url: LearnedUrl, *, limit: int) -> Answer:
        self.fetched.append(url.text)
        await trio.sleep(1)
        if url.text not in self.documents:
            raise Unfetchable(f"{url.text} answered 404")
        content = self.documents[url.text]
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return Answer(200, {"cache-control": self.cache_control}, body)


async def find(documents: ClientDocuments, url: str = URL) -> Client:
    return await documents.find(parse_learned_url(url))


async def test_a_document_is_fetched_once_while_it_is_fresh(autojump_clock: MockClock) -> None:
    http = FakeHttp()
    http.publish()
    documents = ClientDocuments(http)
    assert (await find(documents)).name == "C"
    await trio.sleep(590)
    assert (await find(documents)).name == "C"
    assert http.fetched == [URL]
    http.publish(client_name="Changed", redirect_uris=["https://d.example/"])
    await trio.sleep(20)
    changed = await find(documents)
    assert (changed.name, changed.redirect_uris) == ("Changed", ("https://d.example/",))
    assert http.fetched == [URL, URL]
    assert repr(documents) == "<ClientDocuments [1 kept, 0 being fetched]>"


@pytest.mark.requirement("CI2")
async def test_neither_errors_nor_invalid_documents_are_kept(autojump_clock: MockClock) -> None:
    http = FakeHttp()
    documents = ClientDocuments(http)
    with pytest.raises(Unfetchable):
        await find(documents)
    http.publish(redirect_uris=[])
    with pytest.raises(Refusal):
        await find(documents)
    http.documents[URL] = b"[]"
    with pytest.raises(Unfetchable):
        await find(documents)
    http.publish()
    assert (await find(documents)).name == "C"
    assert len(http.fetched) == 4


@pytest.mark.requirement("CI2", "CO6")
async def test_what_was_good_ends_when_it_is_not_any_more(autojump_clock: MockClock) -> None:
    http = FakeHttp()
    http.publish()
    documents = ClientDocuments(http)
    await find(documents)
    await trio.sleep(601)
    http.publish(client_secret="x")
    for _ in range(2):
        with pytest.raises(Refusal):
            await find(documents)
    assert len(http.fetched) == 3


@pytest.mark.requirement("CI2")
@pytest.mark.parametrize(("cache_control", "until"), [("no-store", 60), ("max-age=1", 60), ("max-age=9999999", 86400)])
async def test_cache_headers_count_within_our_own_bounds(
    cache_control: str, until: float, autojump_clock: MockClock
) -> None:
    http = FakeHttp()
    http.cache_control = cache_control
    http.publish()
    documents = ClientDocuments(http)
    await find(documents)
    await trio.sleep(until - 2)
    await find(documents)
    assert len(http.fetched) == 1
    await trio.sleep(4)
    await find(documents)
    assert len(http.fetched) == 2


async def test_many_who_ask_at_once_cause_one_fetch_and_get_its_outcome(autojump_clock: MockClock) -> None:
    http = FakeHttp()
    documents = ClientDocuments(http)
    outcomes: list[str] = []

    async def ask() -> None:
        try:
            outcomes.append((await find(documents)).name)
        except Unfetchable as exc:
            outcomes.append(str(exc))

    for publish in (False, True):
        if publish:
            http.publish()
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
    assert outcomes == [f"{URL} answered 404"] * 50 + ["C"] * 50
    assert len(http.fetched) == 2


async def test_those_who_wait_are_told_when_the_one_who_fetches_is_cancelled(autojump_clock: MockClock) -> None:
    http = FakeHttp()
    http.publish()
    documents = ClientDocuments(http)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with trio.CancelScope(shield=True), pytest.raises(Unfetchable, match="given up"):
                    await find(documents)

            nursery.start_soon(find, documents)
            await wait_all_tasks_blocked()
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            scope.cancel()
    assert (await find(documents)).name == "C"


@pytest.mark.requirement("CI2")
async def test_no_host_can_be_flooded_through_us(autojump_clock: MockClock) -> None:
    http = FakeHttp()
    documents = ClientDocuments(http)
    refused: list[Refusal] = []

    async def ask(number: int) -> None:
        try:
            await find(
                documents, f"https://Victim.example/{number}" if number % 2 else f"https://victim.example/{number}"
            )
        except Refusal as exc:
            refused.append(exc)
        except Unfetchable:
            pass

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(ask, number)
    assert len(http.fetched) == HOST_BURST
    assert {(exc.status, exc.headers) for exc in refused} == {(429, (("retry-after", str(int(HOST_INTERVAL))),))}
    http.publish()
    assert (await find(documents)).name == "C"  # other hosts are not held to it
    await trio.sleep(HOST_INTERVAL)
    with pytest.raises(Unfetchable):
        await find(documents, "https://victim.example/again")


async def test_a_document_is_known_while_it_is_read_and_as_long_as_it_is_good(autojump_clock: MockClock) -> None:
    """A company that begins on a Monday after a restart asks for one document many times while it is fetched once."""
    http = FakeHttp()
    http.publish()
    documents, url = ClientDocuments(http), parse_learned_url(URL)
    assert not documents.knows(url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(find, documents)
        await wait_all_tasks_blocked()
        assert documents.knows(url)
    await trio.sleep(3600)
    assert documents.knows(url)
    del http.documents[URL]
    with pytest.raises(Unfetchable):
        await find(documents)
    assert not documents.knows(url)


@pytest.mark.requirement("CI2")
async def test_a_document_that_was_good_once_is_no_way_around_the_limit(autojump_clock: MockClock) -> None:
    http = FakeHttp()
    http.publish()
    documents = ClientDocuments(http)
    await find(documents)
    del http.documents[URL]
    await trio.sleep(600)
    with pytest.raises(Unfetchable):
        await find(documents)  # it is gone, and with it what was known of it

    outcomes: list[str] = []
    for _ in range(2 * HOST_BURST):
        try:
            await find(documents)
        except (Unfetchable, Refusal) as exc:
            outcomes.append(type(exc).__name__)
    assert outcomes[-1] == "Refusal"
    # Each fetch takes a second, in which the limit recovers a little.
    assert outcomes.count("Unfetchable") <= HOST_BURST + 2


@pytest.mark.requirement("CI2")
async def test_a_flood_of_names_is_bounded_and_locks_no_known_client_out(autojump_clock: MockClock) -> None:
    http = FakeHttp()
    http.publish()
    documents = ClientDocuments(http)
    await find(documents)
    await trio.sleep(601)

    async def ask(number: int) -> None:
        with pytest.raises((Refusal, Unfetchable)):
            await find(documents, f"https://n{number}.evil.example/id")

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(ask, number)
    assert len(http.fetched) - 1 <= TOTAL_BURST
    assert (await find(documents)).name == "C"
    assert http.fetched[-1] == URL


async def test_memory_is_bounded(autojump_clock: MockClock) -> None:
    http = FakeHttp()
    http.cache_control = "max-age=86400"
    documents = ClientDocuments(http)
    for number in range(MAX_KEPT + 20):
        url = f"https://n{number}.example/id"
        http.publish(url)
        await find(documents, url)
    assert repr(documents) == f"<ClientDocuments [{MAX_KEPT} kept, 0 being fetched]>"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder: Path = tmp_path_factory.mktemp("authority")
    return make_authority(folder)


@pytest.mark.requirement("CI1", "CI2")
async def test_a_document_over_real_tls_on_loopback(authority: Authority) -> None:
    async with (
        open_https_server(authority) as server,
        open_learned_http(authority.client_context(), allow_loopback=True) as http,
    ):
        url = f"https://localhost:{server.port}/id.json"
        server.answer(json.dumps({"client_id": url, "redirect_uris": ["http://localhost/cb"]}).encode())
        documents = ClientDocuments(http)
        assert (await find(documents, url)).redirect_uris == ("http://localhost/cb",)
        await find(documents, url)
        assert len(server.requests) == 2  # loopback is where somebody is writing it: never kept
        server.answer(json.dumps({"client_id": url, "redirect_uris": ["http://localhost/cb"]}).encode() + b" " * 16384)
        with pytest.raises(Unfetchable, match="more than 16384 bytes"):
            await find(documents, url)
    async with open_learned_http(ssl.create_default_context()) as http:
        with pytest.raises(Unfetchable, match="port"):
            await find(ClientDocuments(http), url)
