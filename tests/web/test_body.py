from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import trio

from aggregator.errors import Refusal
from aggregator.web.body import BODY_DEADLINE, ClientGoneError, read_body


def receiving(
    chunks: Iterable[bytes], *, then: str = "end", every: float = 0.0
) -> Callable[[], Awaitable[dict[str, Any]]]:
    """`then`: "end" completes the body, "gone" disconnects, "silence" sends nothing more."""
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        await trio.sleep(every)
        if left:
            chunk = left.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(left) or then != "end"}
        if then == "silence":
            await trio.sleep_forever()
        return {"type": "http.disconnect"}

    return receive


async def test_a_body_is_joined_from_its_pieces() -> None:
    assert await read_body(receiving([b"a"]), 10) == b"a"
    assert await read_body(receiving([b""]), 10) == b""
    assert await read_body(receiving([b"ab", b"", b"cd"]), 4) == b"abcd"


@pytest.mark.parametrize("chunks", [[b"abcde"], [b"abc", b"de"], [b"a"] * 5])
async def test_a_body_beyond_the_limit_is_413_as_soon_as_it_is(chunks: list[bytes]) -> None:
    with pytest.raises(Refusal) as refused:
        await read_body(receiving(chunks, then="silence"), 4)
    assert refused.value.status == 413
    assert "4 bytes" in refused.value.description


@pytest.mark.parametrize("chunks", [[], [b"a"]])
async def test_a_body_that_does_not_come_is_408_at_the_deadline(
    chunks: list[bytes], autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(Refusal) as refused:
        await read_body(receiving(chunks, then="silence"), 4)
    assert refused.value.status == 408
    assert trio.current_time() == pytest.approx(BODY_DEADLINE)


async def test_dripping_bytes_does_not_extend_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(Refusal) as refused:
        await read_body(receiving([b"a"] * 1000, every=5.0), 2000)
    assert refused.value.status == 408
    assert trio.current_time() == pytest.approx(BODY_DEADLINE)


@pytest.mark.parametrize("chunks", [[], [b"a"]])
async def test_nobody_is_answered_who_left(chunks: list[bytes]) -> None:
    with pytest.raises(ClientGoneError):
        await read_body(receiving(chunks, then="gone"), 4)
