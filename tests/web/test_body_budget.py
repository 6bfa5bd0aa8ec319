"""How much may be in hand at once, and that it is given back."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import ExitStack
from typing import Any

import pytest
import trio
import trio.testing

from aggregator.errors import Refusal
from aggregator.web.body_budget import BODIES, IN_TOTAL, OF_EACH, BodyBudget
from aggregator.web.http import Request, Response, Route
from aggregator.web.reply import Receive

from ..fakes.asgi import Browser
from ..fakes.mcp_server import MODERN
from ..fakes.relay import one

MEGABYTE = 2**20


def receiving(*chunks: bytes) -> Receive:
    left = list(chunks)

    async def receive() -> MutableMapping[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


def of(bearer: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"Bearer {bearer}".encode())]


async def take(budget: BodyBudget, stack: ExitStack, bearer: str, size: int) -> None:
    """A request of this size that is not answered before the stack is left."""
    receive = stack.enter_context(budget.counting(of(bearer), receiving(b"x" * size)))
    message = await receive()
    assert len(message["body"]) == size
    assert (await receive())["type"] == "http.disconnect"


async def test_one_bearer_has_a_quarter_and_gets_it_back() -> None:
    budget = BodyBudget()
    for _ in range(2):
        with ExitStack() as stack:
            for _ in range(OF_EACH // MEGABYTE):
                await take(budget, stack, "anna", MEGABYTE)
            with pytest.raises(Refusal) as refused:
                await take(budget, stack, "anna", 1)
            assert refused.value.status == 503
            assert ("retry-after", "1") in refused.value.headers
            await take(budget, stack, "ben", MEGABYTE)
        assert repr(budget) == f"<BodyBudget 0 of {IN_TOTAL} bytes>"
        assert not budget._by_bearer


async def test_all_together_have_the_total() -> None:
    budget = BodyBudget()
    with ExitStack() as stack:
        for number in range(IN_TOTAL // (4 * MEGABYTE)):
            await take(budget, stack, f"p{number}", 4 * MEGABYTE)
        with pytest.raises(Refusal):
            await take(budget, stack, "late", 1)
    with ExitStack() as stack:
        await take(budget, stack, "late", 1)


async def test_a_large_limit_for_bodies_makes_room_for_several() -> None:
    largest = 32 * MEGABYTE
    budget = BodyBudget(largest)
    with ExitStack() as stack:
        for _ in range(BODIES):
            await take(budget, stack, "anna", largest)
        with pytest.raises(Refusal):
            await take(budget, stack, "anna", largest)
        await take(budget, stack, "ben", largest)


async def test_a_request_that_breaks_gives_back_what_it_held() -> None:
    budget = BodyBudget()

    async def breaks() -> None:
        with budget.counting(of("anna"), receiving(b"abc")) as receive:
            await receive()
            assert budget._held == 3
            raise KeyError

    with pytest.raises(KeyError):
        await breaks()
    assert budget._held == 0


async def test_the_application_says_503_while_there_is_no_room_and_serves_when_there_is() -> None:
    answer_now = trio.Event()

    async def keep(request: Request) -> Response:
        await answer_now.wait()
        return Response(200, str(len(request.body)).encode())

    async with one(MODERN, routes=[Route("/keep", {"POST": keep}, body_limit=OF_EACH)]) as (_, relay):
        browser, anna = Browser(relay.app), [("authorization", "Bearer anna")]
        async with browser.open("POST", "/keep", anna, [b"x" * MEGABYTE] * (OF_EACH // MEGABYTE)) as first:
            await trio.testing.wait_all_tasks_blocked()
            refused = await browser.request("POST", "/keep", anna, b"x")
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            async with browser.open("POST", "/keep", [("authorization", "Bearer ben")], [b"x"]) as other:
                await trio.testing.wait_all_tasks_blocked()
                answer_now.set()
                await first.done.wait()
                await other.done.wait()
        assert (first.status, other.status) == (200, 200)
        assert (await browser.request("POST", "/keep", anna, b"x")).status == 200
