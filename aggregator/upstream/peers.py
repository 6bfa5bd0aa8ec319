"""What all upstreams have in common, however they are reached: the questions, the answers, a listing's pages.

`upstream/http/upstream.py` and `upstream/commands/upstream.py` are the kinds there are; nobody else
needs to know which one it has. This file does no I/O of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..errors import UpstreamLost
from ..protocol.jsonrpc import METHOD_NOT_FOUND, Call, Failure, Json, Message, Notice, Success, dump, failure
from ..protocol.offering import AS_A_CLIENT
from ..protocol.revisions import HANDSHAKE, SERVER_INFO_KEY, STATELESS, at_least, is_stateless
from ..protocol.subscriptions import Wanted
from ..protocol.translate import Envelope
from .credentials import EVERYONE, NOTHING, Credential

MAX_PAGES = 100  # of one listing; far beyond any real server, short of an endless one
MAX_ITEMS = 10_000  # of one listing; the same
MAX_LISTING = 8 * 2**20  # bytes of all its items: we keep them, and everybody who lists gets them
NOBODY = ""  # the owner of sessions in which we list on no one's behalf


class SessionKey(NamedTuple):
    """Whose session at an older upstream. `owner` is a person's key or nobody's, `account` the owner of the credential,
    `asked` what can be asked in it, as JSON, and `client` the session of the client that can be."""

    owner: str
    account: str
    asked: str = ""
    client: str = ""


LISTING = SessionKey(NOBODY, EVERYONE)

# Notifications that concern the session, not the call on whose stream they come.
_SESSION_NOTICES = frozenset(
    {
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/roots/list_changed",
    }
)
_PAGE_DONE = "notifications/elicitation/complete"

OnNotice = Callable[[Notice], Awaitable[None]]
Hear = Callable[[Notice], None]
Poll = Callable[[float | None], Awaitable[None]]  # seconds, if any were named
OnRequest = Callable[[Call], Awaitable[Success | Failure]]  # answers what an upstream asks; never fails


@dataclass(frozen=True, slots=True)
class Peer:
    """What an upstream said about itself."""

    revision: str
    capabilities: Json
    server: Json
    instructions: str = ""


async def nobody_polls(retry: float | None) -> None:
    """The client waits for its answer where it asked."""


async def refuse(question: Call) -> Failure:
    """Nobody can be asked."""
    return failure(question.id, METHOD_NOT_FOUND, f"{question.method[:80]} is not available")


@dataclass(frozen=True, slots=True)
class Respondent:
    """Who answers what an upstream asks while a request runs.

    `capabilities` is what can be asked: nothing, if nobody can be. `session` is the client's own: all of its requests
    have one person in front of one program, so one may answer for another. It is empty for a client without sessions,
    of which no two requests are known to be the same program's. Time in a block of `standing` is not the request's.
    `poll` is told that the upstream wants to be asked again for its answer, in so many seconds (SEP-1699).
    """

    capabilities: Json = field(default_factory=dict)
    answer: OnRequest = refuse
    session: str = ""
    standing: Callable[[], AbstractContextManager[None]] = nullcontext
    poll: Poll = nobody_polls


SILENT = Respondent()  # nobody can be asked anything


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request on somebody's behalf, in the words of the client's revision but with the upstream's own names.

    `owner` is the person's key, or `NOBODY`. An upstream of a handshake revision learns once for a session what can be
    asked in it, and may ask on a stream that belongs to no request: so a session belongs to one owner, one credential's
    and one set of capabilities, and to one session of a client that can be asked something. Others share one.
    """

    method: str
    params: Json
    envelope: Envelope
    owner: str
    extra_headers: tuple[tuple[str, str], ...] = ()
    credential: Credential = NOTHING
    respondent: Respondent = SILENT
    overheard: bool = False  # somebody wants to know of changes that the upstream tells this session only

    @property
    def session(self) -> SessionKey:
        if not (able := self.respondent.capabilities):
            return SessionKey(self.owner, self.credential.owner)
        return SessionKey(self.owner, self.credential.owner, dump(able).decode(), self.respondent.session)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back, and the revision whose rules it follows."""

    outcome: Success | Failure
    revision: str


class McpUpstream(Protocol):
    """One MCP server behind us. `peer` is what it said of itself last, None before it was ever met."""

    @property
    def name(self) -> str: ...

    @property
    def peer(self) -> Peer | None: ...

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines that a program wrote besides its messages, for whoever runs it and for nobody else."""
        ...

    @property
    def is_in_doubt(self) -> bool: ...

    def doubt(self) -> None:
        """What is known of the upstream may be out of date: the next request asks it anew, if it can have changed."""
        ...

    def retry(self) -> None:
        """Somebody wants it to be tried now: do not wait any longer, if it waits."""
        ...

    async def meet(self, session: SessionKey = LISTING, credential: Credential = NOTHING) -> Peer:
        """Find out what the upstream speaks.

        Raises:
            UpstreamLost, UpstreamRefused: if it cannot be told now.
        """
        ...

    def forget(self, client: str) -> None:
        """The session of a client, by its id, has ended: nobody will ask or answer in it any more."""
        ...

    async def request(self, outgoing: Outgoing, on_notice: OnNotice) -> Answered:
        """Have the upstream answer; progress and log messages for the client go to `on_notice` as they come.

        What an upstream of a handshake revision asks meanwhile, the respondent answers. When cancelled, the upstream is
        told to stop.

        Raises:
            UpstreamLost, UpstreamRefused: if there is no answer.
        """
        ...

    async def listen(
        self,
        session: SessionKey,
        credential: Credential,
        wanted: Wanted,
        hear: Hear,
        acknowledge: Callable[[Wanted], None],
    ) -> None:
        """Have the upstream tell what changes between calls, as long as its stream lasts.

        `acknowledge` is told once what of `wanted` it tells of; then `hear` gets every notification. With an upstream
        of a handshake revision that is no resource before it is subscribed to.

        Raises:
            UpstreamLost, UpstreamRefused: if there is no stream, or it breaks.
        """
        ...

    async def subscribe(self, session: SessionKey, credential: Credential, uris: frozenset[str]) -> frozenset[str]:
        """Have an upstream of a handshake revision tell, where it is listened to in this session, of these resources
        and no others; those of which it does.

        Raises:
            UpstreamLost, UpstreamRefused: if it cannot be asked.
        """
        ...

    async def list_all(
        self, method: str, key: str, *, owner: str = NOBODY, credential: Credential = NOTHING
    ) -> tuple[list[Json], float | None]:
        """As `list_pages`."""
        ...


async def list_pages(
    upstream: McpUpstream, method: str, key: str, *, owner: str, credential: Credential
) -> tuple[list[Json], float | None]:
    """Every page of a listing, and the shortest time to live (seconds) that the upstream names, if any.

    Raises:
        UpstreamLost, UpstreamRefused: also if a page is malformed or the pages do not end.
    """
    items: list[Json] = []
    lives: list[float] = []
    seen: set[str] = set()
    params: Json = {}
    size = 0
    for _ in range(MAX_PAGES):
        outgoing = Outgoing(method, params, Envelope(STATELESS, AS_A_CLIENT), owner, credential=credential)
        match (await upstream.request(outgoing, drop)).outcome:
            case Failure(_, _) as refused:
                if refused.code == METHOD_NOT_FOUND:
                    return [], None
                raise UpstreamLost(f"refused {method}: {refused.message[:200]} ({refused.code})")
            case Success(_, result):
                pass
        page = result.get(key)
        if not isinstance(page, list):
            raise UpstreamLost(f"answered {method} without '{key}'")
        items.extend(item for item in page if isinstance(item, dict))
        if len(items) > MAX_ITEMS:
            raise UpstreamLost(f"has more than {MAX_ITEMS} {key}")
        size += len(dump(page))
        if size > MAX_LISTING:
            raise UpstreamLost(f"has {key} of more than {MAX_LISTING} bytes")
        if isinstance(ttl := result.get("ttlMs"), int | float) and not isinstance(ttl, bool) and ttl >= 0:
            lives.append(min(ttl, 10**9) / 1000)  # an integer of 4,000 digits has no float
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str) or not cursor:
            return items, min(lives, default=None)
        if cursor in seen:
            raise UpstreamLost(f"answers {method} with the same cursor again and again")
        seen.add(cursor)
        params = {"cursor": cursor}
    raise UpstreamLost(f"has more than {MAX_PAGES} pages of {key}")


def notice_for_client(notice: Notice, envelope: Envelope, token: str) -> Notice | None:
    """The notification as the client should see it: its own progress token, its own log level; None if not for it."""
    if notice.method == "notifications/progress":
        if envelope.progress_token is None or notice.params.get("progressToken") != token:
            return None
        return Notice(notice.method, {**notice.params, "progressToken": envelope.progress_token})
    if notice.method == "notifications/message":
        wanted = envelope.log_level
        if wanted is None:
            # 2026-07-28: absent logLevel, the server MUST NOT send any; before, it MAY choose.
            return None if is_stateless(envelope.revision) else notice
        return notice if at_least(str(notice.params.get("level")), wanted) else None
    if notice.method == _PAGE_DONE:
        # 2025-11-25 only, which tells the id of the question to the client; before, and after, there are no such ids.
        return notice if envelope.revision == HANDSHAKE else None
    return None if notice.method in _SESSION_NOTICES else notice


def stateless_peer(discovered: Json) -> Peer | None:
    """What a result of `server/discover` says; None if the server does not speak 2026-07-28 after all."""
    versions = discovered.get("supportedVersions")
    if not isinstance(versions, list) or STATELESS not in versions:
        return None
    # 2026-07-28 puts the server's name into `_meta`; early servers beside it.
    server = as_object(as_object(discovered.get("_meta")).get(SERVER_INFO_KEY) or discovered.get("serverInfo"))
    return Peer(STATELESS, as_object(discovered.get("capabilities")), server, instructions_in(discovered))


def instructions_in(result: Json) -> str:
    """What a server says of itself in words when it is met; nothing if it says something else."""
    text = result.get("instructions")
    return text if isinstance(text, str) else ""


def as_object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


async def drop(message: Message | Notice) -> None:
    """Nobody waits for what an upstream says beside this answer."""
