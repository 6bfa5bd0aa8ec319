"""What a program tells between calls: of which resources it is asked to, and when."""

from __future__ import annotations

from typing import Any

import trio

from aggregator.protocol.jsonrpc import Notice
from aggregator.protocol.subscriptions import Wanted
from aggregator.upstream.credentials import NOTHING
from aggregator.upstream.peers import LISTING

from ...fakes.child import FakeChild, answer
from .test_upstream import OLDER, commanding


class Telling:
    """A program of 2025-11-25 that tells of every resource but ``mem://secret``."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, child: FakeChild) -> None:
        while True:
            message = await child.hear()
            match message.get("method"):
                case "initialize":
                    able = {"resources": {"subscribe": True}}
                    await answer(child, message, {"protocolVersion": OLDER, "capabilities": able})
                case "resources/subscribe" | "resources/unsubscribe" as method:
                    uri = message["params"]["uri"]
                    self.asked.append(f"{method.removeprefix('resources/')} {uri}")
                    if uri == "mem://secret":
                        await child.send(id=message["id"], error={"code": -32602, "message": "no"})
                        continue
                    await answer(child, message, {})
                    await child.send(method="notifications/resources/updated", params={"uri": uri})
                case _:
                    pass


async def test_an_older_program_is_asked_for_what_is_new_and_for_what_nobody_wants_any_more(
    autojump_clock: Any,
) -> None:
    telling = Telling()
    heard: list[Notice] = []
    acknowledged: list[Wanted] = []
    async with commanding(telling) as (upstream, _), trio.open_nursery() as nursery:
        wanted = Wanted(frozenset({"resources"}), frozenset({"mem://a"}))
        nursery.start_soon(upstream.listen, LISTING, NOTHING, wanted, heard.append, acknowledged.append)
        await trio.sleep(60)
        assert acknowledged == [Wanted(wanted.kinds)], "resources are subscribed to one by one"
        honoured = await upstream.subscribe(LISTING, NOTHING, frozenset({"mem://a", "mem://secret"}))
        assert honoured == {"mem://a"}
        assert await upstream.subscribe(LISTING, NOTHING, frozenset({"mem://a", "mem://b"})) == {"mem://a", "mem://b"}
        assert await upstream.subscribe(LISTING, NOTHING, frozenset({"mem://b"})) == {"mem://b"}
        assert telling.asked == [
            "subscribe mem://a",
            "subscribe mem://secret",
            "subscribe mem://b",
            "unsubscribe mem://a",
        ]
        assert {notice.params["uri"] for notice in heard} == {"mem://a", "mem://b"}
        nursery.cancel_scope.cancel()


async def test_nothing_is_subscribed_to_of_a_program_that_does_not_run(autojump_clock: Any) -> None:
    async with commanding() as (upstream, _):
        assert await upstream.subscribe(LISTING, NOTHING, frozenset({"mem://a"})) == frozenset()
