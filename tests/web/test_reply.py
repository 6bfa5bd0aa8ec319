from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from aggregator.protocol.jsonrpc import Notice, Success, failure
from aggregator.protocol.revisions import HANDSHAKE, STATELESS
from aggregator.web.reply import Reply

from ..fakes.asgi import Ongoing

EXTRA = [(b"x-request-id", b"r")]


def begun(revision: str = STATELESS) -> tuple[Ongoing, Reply]:
    ongoing = Ongoing([])
    return ongoing, Reply(ongoing.send, revision, EXTRA)


async def test_a_single_message_is_plain_json() -> None:
    ongoing, reply = begun()
    await reply.finish(Success(1, {"a": "é"}))
    assert ongoing.json() == {"jsonrpc": "2.0", "id": 1, "result": {"a": "é"}}
    assert ongoing.headers["content-length"] == str(len(ongoing.body))
    assert ongoing.headers["x-request-id"] == "r"
    assert ongoing.ended


async def test_a_second_message_makes_it_a_stream_that_no_proxy_holds_back() -> None:
    ongoing, reply = begun()
    await reply.notice(Notice("notifications/a", {"text": "line\nbreak"}))
    assert ongoing.is_stream
    assert not ongoing.ended
    await reply.notice(Notice("notifications/b", {}))
    await reply.finish(Success(1, {}))
    assert [message.get("method") for message in ongoing.messages()] == ["notifications/a", "notifications/b", None]
    assert ongoing.messages()[0]["params"] == {"text": "line\nbreak"}
    assert ongoing.headers["x-accel-buffering"] == "no"
    assert "no-store" in ongoing.headers["cache-control"]
    assert ongoing.headers["x-request-id"] == "r"
    assert ongoing.ended


@pytest.mark.parametrize(
    ("revision", "code", "status"),
    [
        (STATELESS, -32601, 404),
        (STATELESS, -32602, 400),
        (STATELESS, -32020, 400),
        (STATELESS, -32022, 400),
        (STATELESS, -32603, 200),
        (STATELESS, -32000, 200),
        (HANDSHAKE, -32601, 200),
        (HANDSHAKE, -32602, 200),
    ],
)
async def test_an_errors_status_is_the_revisions(revision: str, code: int, status: int) -> None:
    ongoing, reply = begun(revision)
    await reply.finish(failure(None, code, "no", {"d": 1}))
    assert ongoing.status == status
    assert json.loads(ongoing.body) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": code, "message": "no", "data": {"d": 1}},
    }


async def test_an_error_after_a_notification_is_an_event() -> None:
    ongoing, reply = begun()
    await reply.notice(Notice("notifications/a", {}))
    await reply.finish(failure(1, -32601, "no"))
    assert ongoing.status == 200
    assert ongoing.messages()[1]["error"]["code"] == -32601


async def test_nothing_follows_an_event_whose_sending_was_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if len(sent) == 2:
            await trio.sleep_forever()  # the client reads no more

    reply = Reply(send, STATELESS, [])
    with trio.move_on_after(1):
        await reply.notice(Notice("notifications/a", {}))
    await reply.notice(Notice("notifications/b", {}))  # of another call of the same batch
    await reply.finish(Success(1, {}))
    assert sent == ["http.response.start", "http.response.body"]
