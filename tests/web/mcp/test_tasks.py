"""Tasks of upstreams (SEP-2663) through the aggregator: handles, and what is asked of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from aggregator.protocol.tasks import TASKS
from aggregator.store.memory import MemoryStore

from ...fakes.asgi import Ongoing
from ...fakes.mcp_server import LEGACY, META, MODERN, FakeServer, Incoming, Json, Speaking, ToolFailure
from ...fakes.relay import ModernClient, Relay, open_relay, text_of

DECLARED: Json = {"extensions": {TASKS: {}}}
TIMES: Json = {"createdAt": "2026-11-21T10:00:00Z", "lastUpdatedAt": "2026-11-21T10:00:00Z", "ttlMs": 60000}
LINK: Json = {"type": "resource_link", "uri": "mem://a", "name": "a"}


def works(server: FakeServer) -> None:
    """A tool ``slow`` that answers with a task, and the three methods; ``7`` and ``8`` are known tasks."""
    server.capabilities = {"tools": {}, "resources": {}, **DECLARED}
    server.resources = [{"uri": "mem://a", "name": "a"}]

    async def slow(speaking: Speaking) -> Json:
        declared = TASKS in speaking.incoming.meta[f"{META}clientCapabilities"].get("extensions", {})
        if not declared and not speaking.arguments.get("rude"):
            return {"content": [{"type": "text", "text": "at once"}]}
        return {"resultType": "task", "taskId": "7", "status": "working", **TIMES, "x": 1}

    def known(incoming: Incoming) -> None:
        if incoming.params["taskId"] not in ("7", "8"):
            raise ToolFailure({"code": -32602, "message": "Unknown task"})

    def get(incoming: Incoming) -> Json:
        known(incoming)
        result = {"content": [LINK], "structuredContent": {"taskId": "7"}}
        return {"taskId": incoming.params["taskId"], "status": "completed", **TIMES, "result": result}

    def acknowledge(incoming: Incoming) -> Json:
        known(incoming)
        return {}

    server.tool("slow", slow)
    server.results |= {"tasks/get": get, "tasks/update": acknowledge, "tasks/cancel": acknowledge}


@asynccontextmanager
async def relay_of(*names: str, store: MemoryStore | None = None) -> AsyncIterator[tuple[Relay, dict[str, FakeServer]]]:
    async with trio.open_nursery() as nursery:
        servers = {name: FakeServer(nursery, MODERN, name=name) for name in names}
        for server in servers.values():
            works(server)
        async with open_relay(servers, store=store) as relay:
            yield relay, servers
        nursery.cancel_scope.cancel()


def client_of(relay: Relay, person: str = "alice", capabilities: Json = DECLARED) -> ModernClient:
    return relay.modern(person, meta={f"{META}clientCapabilities": capabilities})


async def begin(client: ModernClient, tool: str = "up__slow", **arguments: Any) -> Json:
    result: Json = (await client.call(tool, arguments))["result"]
    return result


async def ask(client: ModernClient, method: str, task: Any, **params: Any) -> Json:
    answer: Json = (await client.request(method, {"taskId": task, **params})).json()
    return answer


async def test_a_handle_keeps_every_field_but_its_id() -> None:
    async with relay_of("up") as (relay, _):
        result = await begin(client_of(relay))
        assert result["taskId"].startswith("mcpa_tk_")
        del result["_meta"]
        assert result == {"resultType": "task", "taskId": result["taskId"], "status": "working", **TIMES, "x": 1}


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_requests_go_where_the_task_is_under_its_own_id(method: str) -> None:
    async with relay_of("one", "two") as (relay, servers):
        client = client_of(relay)
        task = (await begin(client, "two__slow"))["taskId"]
        answers = {"inputResponses": {"k": {"action": "accept"}}} if method == "tasks/update" else {}
        result = (await ask(client, method, task, **answers))["result"]
        (incoming,) = servers["two"].calls(method)
        assert incoming.headers["mcp-name"] == incoming.params["taskId"] == "7"
        assert incoming.params.get("inputResponses") == answers.get("inputResponses")
        assert incoming.meta[f"{META}clientCapabilities"] == DECLARED
        assert servers["one"].calls(method) == []
        assert result["resultType"] == "complete"
        assert ("taskId" in result) == (method == "tasks/get")


async def test_what_a_task_came_to_is_shown_as_its_tool_would_have_shown_it() -> None:
    async with relay_of("up", "other") as (relay, _):  # both have mem://a: the later one's is published otherwise
        client = client_of(relay)
        await client.request("resources/list")
        task = (await begin(client, "other__slow"))["taskId"]
        result = (await ask(client, "tasks/get", task))["result"]
        assert result["taskId"] == task
        assert result["result"]["content"][0]["uri"] != "mem://a"
        assert result["result"]["structuredContent"] == {"taskId": "7"}, "a tool's own fields are its own affair"


async def test_a_task_outlives_the_instance_that_began_it() -> None:
    async with relay_of("up") as (relay, _):
        task = (await begin(client_of(relay)))["taskId"]
    async with relay_of("up") as (relay, _):
        assert (await ask(client_of(relay), "tasks/get", task))["result"]["status"] == "completed"


@pytest.mark.requirement("RS6")
async def test_a_task_is_its_persons_only_and_no_other_text_names_one() -> None:
    async with relay_of("up") as (relay, servers):
        task = (await begin(client_of(relay)))["taskId"]
        for client, id in ((client_of(relay, "bob"), task), (client_of(relay), "7"), (client_of(relay), "up~7")):
            assert (await ask(client, "tasks/get", id))["error"]["code"] == -32602
        assert servers["up"].calls("tasks/get") == []


async def test_an_upstreams_own_error_is_passed_on() -> None:
    async with relay_of("up") as (relay, servers):
        client = client_of(relay)
        task = (await begin(client))["taskId"]
        servers["up"].results["tasks/get"] = forgotten
        assert (await ask(client, "tasks/get", task))["error"] == {"code": -32602, "message": "Unknown task"}


def forgotten(incoming: Incoming) -> Json:
    raise ToolFailure({"code": -32602, "message": "Unknown task"})


async def test_who_did_not_declare_the_extension_gets_no_task_and_may_not_ask_for_one() -> None:
    async with relay_of("up") as (relay, _):
        task = (await begin(client_of(relay)))["taskId"]
        plain = client_of(relay, capabilities={})
        assert (await begin(plain))["content"][0]["text"] == "at once"
        for answer in (await plain.call("up__slow", {"rude": True}), await ask(plain, "tasks/get", task)):
            assert answer["error"]["code"] == -32021
            assert answer["error"]["data"] == {"requiredCapabilities": DECLARED}


async def test_the_header_must_name_the_task_of_the_body() -> None:
    async with relay_of("up") as (relay, _):
        client = client_of(relay)
        task = (await begin(client))["taskId"]
        headers = client.headers("tasks/get", {"taskId": "x"})
        received = await client.post(client.encode("tasks/get", {"taskId": task}, 1), headers)
        assert received.json()["error"]["code"] == -32020


async def test_the_extension_is_offered_to_stateless_clients_if_an_upstream_has_it() -> None:
    async with relay_of("up") as (relay, servers):
        client = client_of(relay)
        await client.names()
        offered = (await client.request("server/discover")).json()["result"]["capabilities"]
        assert offered["extensions"] == {TASKS: {}}
        legacy = await relay.legacy()
        initialized = await legacy.initialize()
        assert "extensions" not in initialized["capabilities"]
        assert (await legacy.request("tasks/get", {"taskId": "x"})).json()["error"]["code"] == -32601
        await legacy.call("up__slow")
        (incoming,) = servers["up"].calls()
        assert incoming.meta[f"{META}clientCapabilities"] == {}


async def test_an_older_client_is_told_of_a_task_that_it_cannot_have() -> None:
    async with relay_of("up") as (relay, _):
        assert "result of type 'task'" in text_of(await (await relay.legacy()).call("up__slow", {"rude": True}))


@pytest.mark.parametrize("method", ["tasks/result", "tasks/list"])
async def test_methods_that_the_extension_took_away_are_not_there(method: str) -> None:
    async with relay_of("up") as (relay, _):
        assert (await client_of(relay).request(method)).json()["error"]["code"] == -32601


async def test_an_older_upstream_has_no_tasks(autojump_clock: trio.testing.MockClock) -> None:
    async with relay_of("up") as (relay, servers):
        client = client_of(relay)
        task = (await begin(client))["taskId"]
        servers["up"].restart(LEGACY)
        servers["up"].results.clear()
        answer = await ask(client, "tasks/get", task)
        assert "upstream up" in answer["error"]["message"]


# What is told of tasks between calls


@asynccontextmanager
async def listening(client: ModernClient, *tasks: str) -> AsyncIterator[Ongoing]:
    params = {"notifications": {"taskIds": list(tasks)}}
    async with client.open("subscriptions/listen", params, id="listen") as ongoing:
        yield ongoing


def listens(server: FakeServer) -> None:
    """The server tells of tasks, and acknowledges those that it knows."""
    server.tells = True
    server.known_tasks = {"7", "8"}


async def announce(server: FakeServer, id: str, status: str) -> None:
    result = {"result": {"content": [LINK]}} if status == "completed" else {}
    await server.announce("notifications/tasks", taskId=id, status=status, **TIMES, **result)


async def test_what_changes_of_a_task_is_told_to_those_who_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with relay_of("up", "other") as (relay, servers):
        listens(servers["other"])
        client = client_of(relay)
        await client.request("resources/list")
        task = (await begin(client, "other__slow"))["taskId"]
        bob = client_of(relay, "bob")
        bobs = (await begin(bob, "other__slow"))["taskId"]
        async with listening(client, task, "unknown", bobs) as hers, listening(bob, task) as his:
            await trio.sleep(8)
            (first,) = hers.messages()
            assert first["params"]["notifications"] == {"taskIds": [task]}
            assert his.messages()[0]["params"]["notifications"] == {}
            await announce(servers["other"], "8", "working")
            await announce(servers["other"], "7", "working")
            await announce(servers["other"], "7", "completed")
            await trio.sleep(2)
            last = hers.messages()[-1]
            assert (last["method"], last["params"]["taskId"]) == ("notifications/tasks", task)
            assert last["params"]["status"] == "completed"
            assert last["params"]["result"]["content"][0]["uri"] != "mem://a"
            assert last["params"]["_meta"] == {f"{META}subscriptionId": "listen"}
            assert {message["params"].get("taskId") for message in hers.messages()[1:]} == {task}
            assert len(his.messages()) == 1
        (incoming,) = servers["other"].calls("subscriptions/listen")
        assert incoming.params["notifications"] == {"taskIds": ["7"]}
        assert incoming.meta[f"{META}clientCapabilities"] == DECLARED
        assert servers["up"].calls("subscriptions/listen") == []


async def test_who_did_not_declare_the_extension_is_told_of_no_task() -> None:
    async with relay_of("up") as (relay, _):
        task = (await begin(client_of(relay)))["taskId"]
        plain = client_of(relay, capabilities={})
        received = await plain.request("subscriptions/listen", {"notifications": {"taskIds": [task]}})
        assert received.json()["error"]["code"] == -32021


@pytest.mark.parametrize("ids", ["x", [1], {"a": 1}, ["x"] * 501])
async def test_ids_of_tasks_must_be_a_list_of_a_reasonable_length(ids: Any) -> None:
    async with relay_of("up") as (relay, _):
        named = [f"{id}{number}" for number, id in enumerate(ids)] if ids == ["x"] * 501 else ids
        received = await client_of(relay).request("subscriptions/listen", {"notifications": {"taskIds": named}})
        assert received.json()["error"]["code"] == -32602
