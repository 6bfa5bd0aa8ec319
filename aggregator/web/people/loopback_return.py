"""``http://127.0.0.1:<port>/callback``: where a client that was registered as a program's own has its people come back.

It is open while a login is under way and does one thing: it leads the browser on,
with what it brought, to the page of ours that the login belongs to. There the
answer is checked; here nothing of it is believed or kept. This file must not know
tokens, people or upstreams.
"""

from __future__ import annotations

import errno
import html
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qs, urlsplit

import h11
import trio

from ...errors import ConnectFailed
from ...protocol.oauth.sealed import FLOW_LIFETIME

HOST = "127.0.0.1"  # RFC 8252 7.3 and 8.3: the literal, since a name may be somebody else's
PATH = "/callback"
READ_WITHIN = 10.0  # seconds for a request on loopback
MAX_HEAD = 16 * 1024  # bytes; a code may be long

_URI = re.compile(rf"http://{re.escape(HOST)}:[1-9][0-9]{{0,4}}{PATH}", re.ASCII)
_NOTHING = "No login is under way here. Begin again at the page that you came from."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Login:
    """`page` is where its answer belongs, until then (trio's clock)."""

    page: str
    until: float


@dataclass(slots=True, eq=False)
class _Door:
    """One port, as long as there are logins that come back to it."""

    port: int
    logins: dict[str, _Login] = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)
    closed: trio.Event = field(default_factory=trio.Event)
    closing: bool = False


class LoopbackReturns:
    """The ports that are open now. They belong to `run`, which has to run."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._doors: dict[int, _Door] = {}  # by the port that was asked for
        self._opening = trio.Lock()

    def __repr__(self) -> str:
        return f"<LoopbackReturns {sorted(door.port for door in self._doors.values())}>"

    async def run(self) -> None:
        """Keep what `expect` opens, until cancelled; then close it."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def expect(self, state: str, port: int, page: str) -> str:
        """The redirect URI of the login `state`, whose answer is led on to `page`. `port` 0 is any free one.

        It is open for as long as a login may take, or until `forget`; logins share a port.

        Raises:
            ConnectFailed: if the port cannot be had.
        """
        async with self._opening:
            door = self._doors.get(port)
            if door is not None and door.closing:
                await door.closed.wait()
                door = None
            if door is None:
                door = await self._open(port)
            door.logins[state] = _Login(page, trio.current_time() + FLOW_LIFETIME)
            self._tell(door)
        return f"http://{HOST}:{door.port}{PATH}"

    def forget(self, state: str) -> None:
        """This login is over. One that is not known is none of ours."""
        for door in self._doors.values():
            if door.logins.pop(state, None) is not None:
                self._tell(door)

    async def _open(self, port: int) -> _Door:
        if self._nursery is None:
            raise ConnectFailed("the aggregator is about to stop", temporary=True)
        try:
            listeners = await trio.open_tcp_listeners(port, host=HOST)
        except OSError as exc:
            why = "is taken by another program" if exc.errno == errno.EADDRINUSE else f"cannot be had: {exc.strerror}"
            told = f"the port {port}, to which its login comes back ('callbackPort'), {why}"
            raise ConnectFailed(told, temporary=True) from exc
        door = _Door(listeners[0].socket.getsockname()[1])
        self._doors[port] = door
        self._nursery.start_soon(self._keep, port, door, listeners)
        return door

    async def _keep(self, asked: int, door: _Door, listeners: list[trio.SocketListener]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(trio.serve_listeners, partial(_answer, door), listeners))
                while True:
                    now = trio.current_time()
                    door.logins = {state: login for state, login in door.logins.items() if login.until > now}
                    door.changed = trio.Event()
                    until = min((login.until for login in door.logins.values()), default=now)
                    if not door.logins:
                        break
                    with trio.move_on_at(until):
                        await door.changed.wait()
                door.closing = True
                nursery.cancel_scope.cancel("no login comes back here")
        finally:
            self._doors.pop(asked, None)
            door.closed.set()

    def _tell(self, door: _Door) -> None:
        door.changed.set()


def is_loopback_return(uri: str) -> bool:
    """Whether a redirect URI is one of these."""
    return _URI.fullmatch(uri) is not None


async def _answer(door: _Door, stream: trio.SocketStream) -> None:
    """One connection, one answer."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    async with stream:
        with trio.move_on_after(READ_WITHIN):
            try:
                request = await _request(connection, stream)
                status, headers, words = _led_on(door, request)
                await stream.send_all(_rendered(connection, status, headers, words))
            except (h11.ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # whoever it was is gone, or speaks no HTTP


async def _request(connection: h11.Connection, stream: trio.SocketStream) -> h11.Request:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            raise h11.RemoteProtocolError("the connection has ended")
        connection.receive_data(await stream.receive_some(MAX_HEAD))


_Answer = tuple[int, list[tuple[str, str]], str]


def _led_on(door: _Door, request: h11.Request) -> _Answer:
    """What a request gets: the way to the page its `state` belongs to, or words."""
    target = request.target.decode("ascii", "replace")
    parts = urlsplit(target)
    host = next((value for name, value in request.headers if name == b"host"), b"")
    # A page of another name that has been made to mean this address (DNS rebinding) gets no further.
    if host.decode("ascii", "replace").lower() not in (f"{HOST}:{door.port}", f"localhost:{door.port}"):
        return 421, [], "This is not the address of what answers here."
    if parts.path != PATH or request.method != b"GET":
        return 404, [], _NOTHING
    state = parse_qs(parts.query).get("state", [""])
    login = door.logins.get(state[0]) if len(state) == 1 else None
    if login is None or login.until <= trio.current_time():
        log.info("an answer at port %d belongs to no login", door.port)
        return 400, [], _NOTHING
    # No redirect: where a form of the authorization server led here, browsers hold every redirect that follows against
    # that page's `form-action`, which names this address at most. In a header, since no page shall hold a code.
    return 200, [("refresh", f"0;url={login.page}?{parts.query}")], "Going on to the aggregator."


def _rendered(connection: h11.Connection, status: int, headers: list[tuple[str, str]], words: str) -> bytes:
    body = f"<!doctype html><title>mcp-aggregator</title><p>{html.escape(words)}</p>".encode() if words else b""
    fixed = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", str(len(body))),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("connection", "close"),
    ]
    send: Callable[[h11.Event], bytes | None] = connection.send
    parts = [send(h11.Response(status_code=status, headers=[*headers, *fixed]))]
    if body:
        parts.append(send(h11.Data(data=body)))
    parts.append(send(h11.EndOfMessage()))
    return b"".join(part or b"" for part in parts)
