"""A crowd: clients of all revisions at once, each with connections of its own, all with the same JSON-RPC ids and the
same progress token. Whatever reaches one of them says whose it is, and is held against that.

What each does, and when it leaves, comes from a seed. This file does not know how the
aggregator was started; `crowded.py` does.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from aggregator.serving import first_leaf

from .crowd_plans import MODERN, Errand, Leaving, Plan, account_of
from .own_connection import Json, OwnConnection

TOKEN = "progress"  # everybody's
CANCELLED, INVALID = -32800, -32602
CAPABILITIES: Json = {"elicitation": {"form": {}}}
META = "io.modelcontextprotocol/"
IDLE = 20.0  # seconds; less than what is kept alive


@dataclass(slots=True)
class Tally:
    """What a crowd came to. `wrong` says of each thing that was not as it has to be, whose it was and what."""

    ended: Counter[str] = field(default_factory=Counter)
    heard: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    waits: list[float] = field(
        default_factory=list
    )  # seconds of each call beyond what the upstream and its person took
    doing: dict[int, str] = field(default_factory=dict)  # by client, until it has ended

    def percentile(self, share: float) -> float:
        waits = sorted(self.waits) or [0.0]
        return waits[min(int(share * len(waits)), len(waits) - 1)]


class Meeting:
    """Nobody goes on before all `expected` have come."""

    def __init__(self, expected: int) -> None:
        self._missing = expected
        self.complete = trio.Event()

    def come(self) -> None:
        self._missing -= 1
        if not self._missing:
            self.complete.set()

    async def wait(self) -> None:
        self.come()
        await self.complete.wait()


class Crowd:
    """`ports` are those of the instances: each client has one that it calls, and answers by the next. `sessions` are
    those that clients have from an earlier crowd, by number; it is kept up to date.

    `gathered` is complete while every client is connected and nobody has called yet; `go` lets them.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        ports: Sequence[int],
        authority: str,
        bearers: dict[str, str],
        sessions: dict[int, str],
    ) -> None:
        self.tally = Tally()
        self.sessions = sessions
        self.gathered = Meeting(len(plans))
        self.go = trio.Event()
        self.finished = Meeting(len(plans))
        self._plans = plans
        self._ports = ports
        self._authority = authority
        self._bearers = bearers

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for plan in self._plans:
                ports = [self._ports[(plan.number + next) % len(self._ports)] for next in (0, 1)]
                client = _Client(plan, self, ports, self._authority, self._bearers[plan.person])
                nursery.start_soon(client.run)


class _Client:
    def __init__(self, plan: Plan, crowd: Crowd, ports: list[int], authority: str, bearer: str) -> None:
        self._plan = plan
        self._crowd = crowd
        self._tally = crowd.tally
        self._ports = ports
        self._authority = authority
        self._bearer = bearer
        self._session = crowd.sessions.get(plan.number)
        self._lines: dict[str, OwnConnection] = {}
        self._updated = trio.Event()
        self._is_modern = plan.revision == MODERN

    async def run(self) -> None:
        try:
            with self._checked("gathering"):
                await self._begin()
            await self._crowd.gathered.wait()
            await self._crowd.go.wait()
            with self._checked("calling"):
                await self._live()
            if self._plan.leaves is not None:
                self._break_off(rudely=self._plan.number % 20 < 10)
                with self._checked("ending its session"):
                    await self._end_session()
            await self._crowd.finished.wait()
        finally:
            self._break_off(rudely=False)

    def _break_off(self, *, rudely: bool) -> None:
        while self._lines:
            self._lines.popitem()[1].break_off(rudely=rudely)

    @contextmanager
    def _checked(self, doing: str) -> Iterator[None]:
        self._tally.doing[self._plan.number] = doing
        try:
            yield
        except* (AssertionError, EOFError, trio.BrokenResourceError, OSError) as group:
            doing = self._tally.doing[self._plan.number]
            self._tally.wrong.append(f"{self._plan.number} {self._plan.revision}, {doing}: {first_leaf(group)!r}")
        del self._tally.doing[self._plan.number]

    async def _line(self, use: str) -> OwnConnection:
        """The connection for this use. That of calls stays, and goes to its own instance; those of answers and
        cancellations go to the next, and are new each time. As every client's, they are not used when they were idle
        for long: a server closes them then, and a crowd takes its time."""
        is_lasting = use in ("calls", "stream")
        line = self._lines.get(use)
        is_old = line is not None and use == "calls" and trio.current_time() > line.heard_at + IDLE
        if line is not None and (is_old or not is_lasting):
            self._lines.pop(use).break_off()
        if use not in self._lines:
            self._lines[use] = await OwnConnection.open(self._ports[0 if is_lasting else 1], self._authority)
        return self._lines[use]

    # ----- the way of a client

    async def _begin(self) -> None:
        line = await self._line("calls")
        if self._is_modern or self._session is not None:
            (answer,) = await self._ask(line, 1, "server/discover" if self._is_modern else "ping", {})
            assert "result" in answer, answer
        else:
            params = {"protocolVersion": self._plan.revision, "capabilities": CAPABILITIES, "clientInfo": {"name": "c"}}
            (answer,) = await self._ask(line, 1, "initialize", params)
            assert answer["result"]["protocolVersion"] == self._plan.revision, answer
            self._session = self._crowd.sessions[self._plan.number] = line.headers["mcp-session-id"]

    async def _live(self) -> None:
        plan = self._plan
        async with trio.open_nursery() as nursery:
            if plan.listens is not None:
                await nursery.start(self._listen, plan.listens)
            for index, errand in enumerate(plan.errands):
                self._tally.doing[plan.number] = f"errand {index} at {errand.upstream}"
                if plan.leaves is not None and plan.leaves[0] == index:
                    await self._leave(index + 1, errand, *plan.leaves[1:])
                    break
                await self._call(index + 1, errand)
            else:
                if plan.listens is not None:
                    self._tally.doing[plan.number] = f"listening to {plan.listens}"
                    await self._touch(plan.listens)
            nursery.cancel_scope.cancel()
        if plan.leaves is not None:
            return
        await self._end_session()
        self._tally.ended["stayed"] += 1

    async def _end_session(self) -> None:
        if self._session is not None and self._plan.ends_session:
            line = await self._line("answers")
            await line.send("DELETE", self._headers("", None))
            assert await line.begin_answer() == 204, line.status
            del self._crowd.sessions[self._plan.number]

    async def _call(self, id: int, errand: Errand) -> None:
        params = errand.params()
        began, planned, rounds = trio.current_time(), errand.pause + errand.think * errand.asks, 0
        use = "calls"
        while True:
            answer = await self._converse_or_cancel(id, errand, params, await self._line(use))
            if errand.cancel_after is not None and "error" in answer:
                assert answer["error"]["code"] == CANCELLED, answer
                self._tally.ended["cancelled"] += 1
                return
            if use == "answers" and answer.get("error", {}).get("code") == INVALID:
                # The instance that has the call said nothing for five seconds: "Call again", it is told.
                params, use, rounds = errand.params(), "calls", 0
                self._tally.ended["called again"] += 1
                continue
            assert "result" in answer, answer
            result = answer["result"]
            if result.get("resultType") != "input_required":
                break
            assert errand.asks, answer
            assert not rounds, answer
            rounds += 1
            ((key, question),) = result["inputRequests"].items()
            self._own(question["params"]["message"], errand.owner, "question")
            await trio.sleep(errand.think)
            given = {key: {"action": "accept", "content": {"of": errand.owner}}}
            params = {**params, "requestState": result["requestState"], "inputResponses": given}
            use = "answers"
        (text,) = result["content"]
        said = json.loads(text["text"]) if not result.get("isError", True) else {"failed": text["text"]}
        account = {"account": account_of(self._plan.person)} if errand.upstream == "older" else {}
        self._own(said, {"owner": errand.owner, **account}, "result")
        self._tally.ended["answered"] += 1
        self._tally.waits.append(trio.current_time() - began - planned)

    async def _converse_or_cancel(self, id: int, errand: Errand, params: Json, line: OwnConnection) -> Json:
        if errand.cancel_after is None:
            return await self._converse(id, errand, params, line)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel, id, errand.cancel_after)
            try:
                return await self._converse(id, errand, params, line)
            except* EOFError:  # a stream that was being written to when its call was cancelled just ends
                self._lines.pop("calls").break_off()
        return {"error": {"code": CANCELLED}}

    async def _converse(self, id: int, errand: Errand, params: Json, line: OwnConnection) -> Json:
        """The answer to one POST, everything before it checked and, if it is a question, answered."""
        await self._send(line, id, "tools/call", params)
        await line.begin_answer()
        progress = 0
        async with trio.open_nursery() as nursery:
            while (message := await line.next_message()) is not None:
                given = message.get("params", {})
                match message.get("method"):
                    case "notifications/progress":
                        self._own((given["progressToken"], given["message"]), (TOKEN, errand.owner), "progress")
                        assert given["progress"] > progress, f"progress goes back: {message}"
                        progress = given["progress"]
                    case "notifications/message":
                        self._own(given["data"], errand.owner, "log message")
                    case "elicitation/create":
                        self._own(given["message"], errand.owner, "question")
                        nursery.start_soon(self._answer, message["id"], errand)
                    case "notifications/cancelled":
                        assert errand.cancel_after is not None, f"a question was taken back: {message}"
                    case None:
                        assert message.get("id") == id, f"{line.status}: {message}"
                        assert await line.next_message() is None, "something comes behind the answer"
                        nursery.cancel_scope.cancel()
                        return message
                    case other:
                        raise AssertionError(f"{other} came, {message}")
        raise AssertionError(f"{line.status}: the answer ended before its end")

    async def _answer(self, asked: object, errand: Errand) -> None:
        await trio.sleep(errand.think)
        line = await self._line("answers")
        result = {"action": "accept", "content": {"of": errand.owner}}
        body = {"jsonrpc": "2.0", "id": asked, "result": result}
        # Once it is begun, it is sent and acknowledged, whatever becomes of the call.
        with trio.CancelScope(shield=True):
            await line.send("POST", self._headers("", None), json.dumps(body).encode())
            status = await line.begin_answer()
            refused = await line.next_message() if status != 202 else None
        assert status == 202 or errand.cancel_after is not None, f"the answer was not taken: {status} {refused}"

    async def _cancel(self, id: int, after: float) -> None:
        await trio.sleep(after)
        line = await self._line("cancellations")
        body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}
        await line.send("POST", self._headers("", None), json.dumps(body).encode())
        assert await line.begin_answer() == 202, line.status

    async def _leave(self, id: int, errand: Errand, how: Leaving, after: float) -> None:
        line = await self._line("calls")
        part = 0.5 if how is Leaving.IN_ITS_OWN_BODY else 1.0
        await self._send(line, id, "tools/call", errand.params(), part=part)
        if how is Leaving.IN_THE_STREAM:
            await line.begin_answer()
            first = await line.next_message()
            assert errand.owner in json.dumps(first), first
        else:
            await trio.sleep(after)
        self._tally.ended[how.name.lower()] += 1

    # ----- what changes between calls

    async def _listen(self, upstream: str, task_status: trio.TaskStatus[None]) -> None:
        """For ever. Who listens and reads nothing in time, on a machine that has none, is left and comes back."""
        if not self._is_modern:
            params = {"uri": self._uri(upstream)}
            (answer,) = await self._ask(await self._line("answers"), 1, "resources/subscribe", params)
            assert answer.get("result") == {}, answer
        await self._open_stream(upstream)
        task_status.started()
        while True:
            try:
                await self._hear(self._uri(upstream))
            except EOFError:
                self._lines.pop("stream").break_off()
                self._tally.ended["listened again"] += 1
                await self._open_stream(upstream)

    async def _open_stream(self, upstream: str) -> None:
        line, wanted = await self._line("stream"), {"resourceSubscriptions": [self._uri(upstream)]}
        if self._is_modern:
            await self._send(line, 1, "subscriptions/listen", {"notifications": wanted})
        else:
            await line.send("GET", {**self._headers("", None), "accept": "text/event-stream"})
        assert await line.begin_answer() == 200, line.status

    async def _hear(self, uri: str) -> None:
        line = await self._line("stream")
        while (message := await line.next_message()) is not None:
            match message["method"]:
                case "notifications/resources/updated":
                    self._own(message["params"]["uri"], uri, "update")
                    self._updated.set()
                case "notifications/subscriptions/acknowledged":
                    pass
                case other:
                    raise AssertionError(f"{other} came on a stream, {message}")
        raise AssertionError("the stream ended")

    async def _touch(self, upstream: str) -> None:
        """Change what it listens to, until it hears of it: nothing says when an older upstream begins to tell."""
        errand = Errand(self._owner, upstream, 0, 0, asks=False, think=0)
        for id in itertools.count(100):
            if self._updated.is_set():
                return
            message = await self._converse(id, errand, errand.params(touches=True), await self._line("calls"))
            assert not message.get("result", {}).get("isError", True), message
            with trio.move_on_after(0.5):
                await self._updated.wait()

    @property
    def _owner(self) -> str:
        return f"{self._plan.person}.{self._plan.number}.own"  # in every crowd: what is subscribed to stays so

    def _uri(self, upstream: str) -> str:
        return f"{upstream}://{self._owner}"

    # ----- below

    def _own(self, found: object, own: object, what: str) -> None:
        assert found == own, f"{what}: {found} is not {own}"
        self._tally.heard[what] += 1

    async def _ask(self, line: OwnConnection, id: int, method: str, params: Json) -> list[Json]:
        await self._send(line, id, method, params)
        return await line.read_all()

    async def _send(self, line: OwnConnection, id: int, method: str, params: Json, *, part: float = 1.0) -> None:
        if method == "tools/call":
            params = {**params, "_meta": {"progressToken": TOKEN}}
        if self._is_modern:
            meta = {"protocolVersion": MODERN, "clientCapabilities": CAPABILITIES, "logLevel": "debug"}
            named = {f"{META}{key}": value for key, value in meta.items()}
            params = {**params, "_meta": {**named, **params.get("_meta", {})}}
        body = json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode()
        await line.send("POST", self._headers(method, params.get("name")), body, part=part)

    def _headers(self, method: str, name: str | None) -> dict[str, str]:
        made = {
            "authorization": f"Bearer {self._bearer}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        if self._is_modern:
            made |= {"mcp-protocol-version": MODERN, "mcp-method": method}
            if name is not None:
                made["mcp-name"] = name
        elif self._session is not None:
            made |= {"mcp-protocol-version": self._plan.revision, "mcp-session-id": self._session}
        return made
