"""Metadata documents of MCP clients: fetched when asked for, kept while they are good, one fetch at a time for each.

Anybody may send us anybody's URL, so how often we fetch is limited for each host
and altogether. What is kept is bounded, and only what was good is kept. This
file must not know what a document must say, nor whom to tell that it does not.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass, field

import trio

from ..errors import Refusal, Unfetchable
from ..protocol.learned_url import LearnedUrl
from ..protocol.oauth.client_document import MAX_DOCUMENT, lifetime, process_client_document
from ..protocol.oauth.registration import Client
from .network.learned_http import LearnedHttp
from .rate_limit import RateLimit

MAX_KEPT = 500  # documents; a client has a handful of URIs, so this is a megabyte or two
MAX_HOSTS = 1000  # whose rate is remembered
# Mistakes and clients under development. Nobody can use us to send more than that to one host.
HOST_BURST, HOST_INTERVAL = 10, 6.0
# Nor more than one request a second to the world, whatever names they give it. A URL that has served a good document is
# held to neither limit, so a flood of others cannot lock out the clients that a team really uses; it is fetched once a
# minute at most anyway.
TOTAL_BURST, TOTAL_INTERVAL = 60, 1.0


@dataclass(eq=False, slots=True)
class _Reading:
    """One fetch under way, and everybody who waits for it."""

    ended: trio.Event = field(default_factory=trio.Event)
    outcome: Client | Unfetchable | Refusal | None = None


class ClientDocuments:
    """Needs no task of its own: the first who asks for a document fetches it, the others wait for that."""

    def __init__(self, http: LearnedHttp, schemes: Container[str] = ()) -> None:
        self._http = http
        self._schemes = schemes
        self._kept: OrderedDict[str, tuple[Client, float]] = OrderedDict()
        self._readings: dict[str, _Reading] = {}
        self._by_host = RateLimit(HOST_BURST, HOST_INTERVAL, keys=MAX_HOSTS)
        self._in_total = RateLimit(TOTAL_BURST, TOTAL_INTERVAL)

    def __repr__(self) -> str:
        return f"<ClientDocuments [{len(self._kept)} kept, {len(self._readings)} being fetched]>"

    def knows(self, url: LearnedUrl) -> bool:
        """Whether the document at `url` was good when last read, or is being read; of loopback nothing is kept."""
        return url.text in self._kept or url.text in self._readings

    async def find(self, url: LearnedUrl) -> Client:
        """The client that the document at `url` describes.

        Raises:
            Refusal: 429 when we have fetched too much lately; 400 for a document that does not suit, saying why.
            Unfetchable: when there is no such document, for whatever reason.
        """
        client, fresh_until = self._kept.get(url.text, (None, -math.inf))
        if client is not None and trio.current_time() < fresh_until:
            self._kept.move_to_end(url.text)
            return client
        reading = self._readings.get(url.text)
        if reading is not None:
            await reading.ended.wait()
        else:
            if client is None:
                self._count(url)
            reading = self._readings[url.text] = _Reading()
            await self._read(url, reading)
        match reading.outcome:
            case Client() as found:
                return found
            case None:
                raise Unfetchable(f"fetching {url.text} was given up")
            case failure:
                raise failure.with_traceback(None)

    def _count(self, url: LearnedUrl) -> None:
        now, host = trio.current_time(), url.host.lower()
        delay = max(self._by_host.delay(host, now), self._in_total.delay("", now))
        if delay > 0:
            raise _too_many(delay)
        self._by_host.count(host, now)
        self._in_total.count("", now)

    async def _read(self, url: LearnedUrl, reading: _Reading) -> None:
        try:
            answer = await self._http.fetch_json(url, limit=MAX_DOCUMENT)
            client = process_client_document(url, answer.body, schemes=self._schemes)
            self._keep(url, client, lifetime(answer.headers.get("cache-control", "")))
            reading.outcome = client
        except (Unfetchable, Refusal) as exc:
            # 5.2: neither error responses nor invalid documents may be cached. What was good before ends with them.
            self._kept.pop(url.text, None)
            reading.outcome = exc
        finally:
            del self._readings[url.text]
            reading.ended.set()

    def _keep(self, url: LearnedUrl, client: Client, seconds: float) -> None:
        if url.is_loopback:
            return  # somebody is writing it right now
        self._kept[url.text] = client, trio.current_time() + seconds
        self._kept.move_to_end(url.text)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


def _too_many(delay: float) -> Refusal:
    return Refusal(
        429,
        "temporarily_unavailable",
        "Too many clients have asked with a metadata document lately.",
        headers=(("retry-after", str(math.ceil(delay))),),
    )
