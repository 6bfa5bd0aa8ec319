"""An upstream together with the credentials that requests to it carry.

This is what listings and methods speak to. A request that the upstream refuses
with 401 or 403 was not executed; where another credential can be had, it is sent
once more. This file knows neither OAuth nor what a request means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from ..config.model import AnyUpstream
from ..errors import ConnectNeeded, UpstreamLost, UpstreamRefused
from ..protocol.drafts import Drafts
from ..protocol.jsonrpc import Json, Notice
from ..protocol.principal import Principal
from ..protocol.subscriptions import BETWEEN_CALLS, Wanted
from ..protocol.translate import Envelope
from .absence import AGAIN, Absence
from .credentials import Credential, Credentials
from .pauses import Pauses
from .peers import NOBODY, SILENT, Answered, Hear, McpUpstream, OnNotice, Outgoing, Peer, Respondent, SessionKey

_CREDENTIALS = frozenset({401, 403})


class _Uses:
    """Requests under way, counted by entering and leaving; one object for all, for it is on every call's way."""

    __slots__ = ("_count", "_none")

    def __init__(self) -> None:
        self._count = 0
        self._none: trio.Event | None = None  # somebody waits for the last one

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *exc: object) -> None:
        self._count -= 1
        if not self._count and self._none is not None:
            self._none.set()

    async def wait_none(self) -> None:
        while self._count:
            if self._none is None or self._none.is_set():
                self._none = trio.Event()
            await self._none.wait()


class AuthorizedUpstream:
    """One upstream, asked on behalf of people."""

    def __init__(self, config: AnyUpstream, upstream: McpUpstream, credentials: Credentials) -> None:
        self.config = config
        self.credentials = credentials
        self._upstream = upstream
        self.drafts = Drafts()  # of the tools that it lists to anybody
        self._pauses = Pauses()
        self._absence = Absence()
        self._uses = _Uses()
        self._overhearing: set[Callable[[str, Notice], None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<AuthorizedUpstream {self._upstream!r}>"

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def peer(self) -> Peer | None:
        """What the upstream said about itself; None as long as nobody met it."""
        return self._upstream.peer

    @property
    def last_words(self) -> tuple[str, ...]:
        """See `McpUpstream.last_words`."""
        return self._upstream.last_words

    async def request(
        self,
        principal: Principal,
        method: str,
        params: Json,
        envelope: Envelope,
        on_notice: OnNotice,
        extra_headers: tuple[tuple[str, str], ...] = (),
        *,
        respondent: Respondent = SILENT,
    ) -> Answered:
        """Have the upstream answer one request of `principal`; see `McpUpstream.request`.

        Raises:
            ConnectNeeded: if the person has to connect their account first; nothing was executed.
            UpstreamLost, UpstreamRefused: see `McpUpstream.request`.
            StoreUnavailable: if the person's credential is not known now.
        """

        async def hear(notice: Notice) -> None:
            if notice.method not in BETWEEN_CALLS:
                await on_notice(notice)
            for overhear in list(self._overhearing) if notice.method in BETWEEN_CALLS else ():
                overhear(credential.owner, notice)

        with self._used():
            credential = await self._current(principal)
            self._pauses.check(credential.owner, trio.current_time())
            outgoing = Outgoing(
                method, params, envelope, principal.key, extra_headers, credential, respondent, bool(self._overhearing)
            )
            try:
                return await self._ask(outgoing, hear)
            except UpstreamRefused as exc:
                self._pauses.note(exc, credential.owner, trio.current_time())
                credential = await self._renewed(principal, credential, exc)
            outgoing = Outgoing(
                method, params, envelope, principal.key, extra_headers, credential, respondent, bool(self._overhearing)
            )
            try:
                return await self._ask(outgoing, hear)
            except UpstreamRefused as exc:
                await self._renewed(principal, credential, exc)  # so that the person is asked, where that helps
                raise

    async def _ask(self, outgoing: Outgoing, hear: OnNotice) -> Answered:
        """The answer of the upstream, which may be restarted just now: see `Absence`. Raises: as `request`."""
        while True:
            try:
                answered = await self._upstream.request(outgoing, hear)
            except UpstreamLost as exc:
                if not exc.absent or not self._absence.is_brief(trio.current_time(), trio.current_effective_deadline()):
                    raise
                await trio.sleep(AGAIN)
            else:
                self._absence.end()
                return answered

    async def list_all(self, principal: Principal | None, method: str, key: str) -> tuple[list[Json], float | None]:
        """Every page of a listing as `principal` sees it, or as everyone does; see `McpUpstream.list_all`.

        Raises: as `request`.
        """
        owner = NOBODY if principal is None else principal.key
        with self._used():
            credential = await self._current(principal)
            try:
                return await self._upstream.list_all(method, key, owner=owner, credential=credential)
            except UpstreamRefused as exc:
                renewed = await self._renewed(principal, credential, exc)
            return await self._upstream.list_all(method, key, owner=owner, credential=renewed)

    async def meet(self, principal: Principal | None) -> Peer:
        """What the upstream says about itself. Raises: as `request`."""
        if self._upstream.peer is not None and not self._upstream.is_in_doubt:
            return self._upstream.peer
        session = NOBODY if principal is None else principal.key
        with self._used():
            credential = await self._current(principal)
            try:
                return await self._upstream.meet(SessionKey(session, credential.owner), credential)
            except UpstreamRefused as exc:
                renewed = await self._renewed(principal, credential, exc)
            return await self._upstream.meet(SessionKey(session, renewed.owner), renewed)

    async def listen(
        self, principal: Principal | None, wanted: Wanted, hear: Hear, acknowledge: Callable[[Wanted], None]
    ) -> None:
        """Hear what changes, until the upstream ends the stream; see `McpUpstream.listen`. Raises: as `request`."""
        owner = NOBODY if principal is None else principal.key
        credential = await self._current(principal)
        try:
            await self._upstream.listen(SessionKey(owner, credential.owner), credential, wanted, hear, acknowledge)
            return
        except UpstreamRefused as exc:
            renewed = await self._renewed(principal, credential, exc)
        await self._upstream.listen(SessionKey(owner, renewed.owner), renewed, wanted, hear, acknowledge)

    async def subscribe(self, principal: Principal | None, uris: frozenset[str]) -> frozenset[str]:
        """See `McpUpstream.subscribe`. Raises: as `request`."""
        owner = NOBODY if principal is None else principal.key
        credential = await self._current(principal)
        return await self._upstream.subscribe(SessionKey(owner, credential.owner), credential, uris)

    @contextmanager
    def overheard(self, hear: Callable[[str, Notice], None]) -> Iterator[None]:
        """`hear` gets what the upstream says of changes beside its answers to requests, and whose credential these
        carried. Many servers of handshake revisions tell the session of the call that changed something, and no other.
        """
        self._overhearing.add(hear)
        try:
            yield
        finally:
            self._overhearing.discard(hear)

    async def ask_challenge(self) -> str:
        """What the upstream says in WWW-Authenticate to somebody without credentials; empty if it says nothing.

        Bounded by the upstream's `discoveryTimeout`; nothing is executed.
        """
        with trio.move_on_after(self.config.discovery_timeout), self._used():
            try:
                await self._upstream.list_all("tools/list", "tools", credential=await self._current(None))
            except UpstreamRefused as exc:
                return exc.challenge
            except (UpstreamLost, ConnectNeeded):
                pass
        return ""

    def doubt(self) -> None:
        self._upstream.doubt()

    def forget(self, client: str) -> None:
        """See `McpUpstream.forget`."""
        self._upstream.forget(client)

    def retry(self) -> None:
        """Somebody wants it to be tried now: nothing that it waits for, or asked us to wait for, counts any more."""
        self._pauses = Pauses()
        self._upstream.retry()

    async def wait_unused(self) -> None:
        """Return when no request is under way; from then on every one is refused."""
        await self._uses.wait_none()
        self._closed = True

    def _used(self) -> _Uses:
        if self._closed:
            raise UpstreamLost("is no longer configured", executed=False)
        return self._uses

    async def _current(self, principal: Principal | None) -> Credential:
        return await self.credentials.current(principal)

    async def _renewed(self, principal: Principal | None, refused: Credential, exc: UpstreamRefused) -> Credential:
        """Another credential, or `exc`."""
        if exc.status in _CREDENTIALS:
            renewed = await self.credentials.renewed(principal, refused, exc.status, exc.challenge)
            if renewed is not None and renewed != refused:
                return renewed
        raise exc
