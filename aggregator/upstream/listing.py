"""What one upstream offers to one owner of a credential: fetched once for all who ask, kept when the upstream is lost.

A `Listing` is asked for by `upstream/listings.py`, which alone knows people and
how listings become one catalog. Its task lives in the app's nursery. Tools decide
whether the upstream answers; prompts, resources and templates that cannot be
listed cost only themselves.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import trio

from ..config.model import AnyUpstream, ConnectRetry, StdioUpstream
from ..errors import ConnectNeeded, StoreUnavailable, UpstreamLost, UpstreamRefused
from ..protocol.jsonrpc import Json
from ..protocol.principal import Principal
from ..protocol.source import Source
from .authorized import AuthorizedUpstream

DEFAULT_TTL = 60.0  # seconds, where the upstream names none
SHORTEST_TTL = 5.0  # seconds; `ttlMs: 0` must not make every list a fetch
LONGEST_TTL = 3600.0
AHEAD = 0.8  # share of that time after which it is listed anew behind the back of whoever asks
FIRST_RETRY, LAST_RETRY = 2.0, 120.0  # seconds between attempts at an upstream that fails
AT_ONCE = 0.5  # seconds between two listings, when the upstream says that it has changed
TOLD = 8  # different errors of one upstream that are logged once each until it answers
ABANDONED = 600.0  # seconds after which nobody tries again for a person who has gone

_TOOLS = ("tools/list", "tools")
# What is listed besides tools, where the upstream names the capability: method, key in its result, capability.
_OTHERS = (
    ("prompts/list", "prompts", "prompts"),
    ("resources/list", "resources", "resources"),
    ("resources/templates/list", "resourceTemplates", "resources"),
)

_numbers = itertools.count()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Part:
    """One kind of thing as listed, or why it was not."""

    items: tuple[Json, ...] = ()
    ttl: float | None = None
    trouble: str | None = None


class Listing:
    """One upstream's listing for one owner. `principal` is in whose name it is asked, None for everyone's.

    `on_change` is called, without awaiting, whenever what is offered has changed, `on_turn` when anything has.
    `retry` says how it is tried again when it fails; if not at all, then when somebody asks, after `FIRST_RETRY`.
    """

    def __init__(
        self,
        upstream: AuthorizedUpstream,
        owner: str,
        principal: Principal | None,
        nursery: trio.Nursery,
        on_change: Callable[[Listing], None],
        on_turn: Callable[[], None],
        retry: ConnectRetry,
    ) -> None:
        self.number = next(_numbers)  # names it for as long as we run
        self.upstream = upstream
        self.owner = owner
        self.source: Source | None = None
        self.version = 0  # of `source`
        self.error: str | None = None
        self.troubles: dict[str, str] = {}  # why what it has besides tools could not be listed, by kind
        self.needs_login = False
        self.latency: float | None = None
        self.used_at = trio.current_time()
        self.running: trio.Event | None = None  # an attempt is under way; set at its end
        self._principal = principal
        self._nursery = nursery
        self._on_change = on_change
        self._on_turn = on_turn
        self._retry = retry
        self._due_at = self._fresh_until = -1.0
        self._good_until = -1.0
        self._asked_at = -math.inf
        self._failures = 0
        self._told: set[str] = set()  # errors since it answered last
        self._retry_at = -1.0
        self._again = False  # what is being listed may be out of date already
        self._tended = False  # a task tries to list it, or waits to try again
        self._hurry = trio.Event()  # set: do not wait to try again
        self._scope = trio.CancelScope()  # of that task
        self._retired = False

    def __repr__(self) -> str:
        return f"<Listing {self.upstream.name} of {self.owner or 'everyone'}: {self.error or 'good'}>"

    @property
    def config(self) -> AnyUpstream:
        return self.upstream.config

    @property
    def is_awaited(self) -> bool:
        """An attempt is under way for want of a listing that is fresh, and the one before it did not fail."""
        if self.running is None or self._failures or self.needs_login:
            return False
        return self._fresh_until <= trio.current_time()

    @property
    def first_time(self) -> trio.Event | None:
        """Set at the end of the first attempt ever, while that is under way."""
        return self.running if self.source is None and self.error is None else None

    @property
    def may_come(self) -> bool:
        """An attempt is under way, and the one before it did not fail."""
        return self.running is not None and not self._failures

    @property
    def life(self) -> float:
        """Seconds for which a client may keep what is offered: never longer than the upstream says itself, though we
        ask it more seldom if it says nothing but now."""
        if self.source is None or self.error is not None:
            return SHORTEST_TTL
        return max(0.0, self._good_until - trio.current_time())

    @property
    def due_at(self) -> float:
        """When it has to be listed anew, of trio's clock; later if a task tends to it already."""
        return math.inf if self._tended else self._due_at

    @property
    def is_stale(self) -> bool:
        """Something that is offered is from before it could no longer be listed."""
        if self.source is None:
            return False
        return self.error is not None or any(self._items_of(self.source, key) for key in self.troubles)

    def refresh_if_due(self) -> None:
        self.used_at = trio.current_time()
        if not self._tended and self._due_at <= self.used_at:
            self._refresh()

    def refresh_now(self) -> None:
        """The upstream says that something has changed, or may have while it could not say so: list anew at once, and
        once more if it is being listed already."""
        if self._failures:
            return  # it is tried again anyway, or left alone
        if self._tended:
            self._again = True
        else:
            self._refresh()

    def refresh_soon(self) -> None:
        """What is known is doubted: list anew, at most every `SHORTEST_TTL` seconds."""
        if not self._tended and self._asked_at + SHORTEST_TTL <= trio.current_time():
            self._refresh()

    def try_now(self) -> bool:
        """Try it at once, however long it was to wait, if it failed or asked for a login. False if it did not."""
        if self.error is None:
            return False
        self.upstream.retry()
        if self._tended:
            self._hurry.set()
        else:
            self._refresh()
        return True

    def retire(self) -> None:
        """Nobody will ask for it any more: whoever still holds it gets what is known, and it is not listed again."""
        self._retired = True
        self._scope.cancel("upstream gone")

    def _refresh(self) -> None:
        if self._retired:
            return
        self._tended = True
        self.running = trio.Event()  # at once, so that whoever began it can wait for it
        self._on_turn()
        self._nursery.start_soon(self._tend)

    async def _tend(self) -> None:
        """List the upstream, again and again until it answers; alone in changing what is known, and between awaits."""
        self._scope = trio.CancelScope()
        try:
            with self._scope:
                if not self._retired:
                    await self._list_until_it_answers()
        finally:
            if self.running is not None:
                self.running.set()
                self.running = None
            self._tended = False
            self._on_turn()

    async def _list_until_it_answers(self) -> None:
        while True:
            done = self.running = self.running if self.running is not None else trio.Event()
            self._asked_at = trio.current_time()
            try:
                await self._attempt()
            finally:
                self.running = None
                self._on_turn()
                done.set()
            if not self._failures and self._again:
                await trio.sleep(AT_ONCE)  # an upstream that changes all the time is not listed all the time
                self._again = False
                continue
            if not self._failures or (self.owner and self.used_at + ABANDONED < trio.current_time()):
                return
            if not self._retry.enabled:
                self._due_at = self._fresh_until = self._retry_at
                return
            self._hurry = trio.Event()
            with trio.move_on_at(self._retry_at):
                await self._hurry.wait()

    async def _attempt(self) -> None:
        timeout = self.config.discovery_timeout
        try:
            parts = await self._fetch(timeout)
            self.latency = trio.current_time() - self._asked_at
            self._listed(parts)
        except trio.TooSlowError:
            self._failed(f"no list within {timeout:g} s{self._why_slow()}")
        except ConnectNeeded as exc:
            self._asks_for_login(str(exc))
        except UpstreamRefused as exc:
            self._failed(why_refused(exc), retry_after=exc.retry_after or 0.0)
        except UpstreamLost as exc:
            # Who runs a command says itself why it ended, at each attempt.
            self._failed(str(exc), same=exc.cause, is_told=isinstance(self.config, StdioUpstream))
        except StoreUnavailable:
            self._failed("the aggregator's store is not available now")
        except Exception as exc:  # the supervisor of one upstream: no answer of its may end the process
            log.exception("upstream %s: listing failed unexpectedly", self.config.name)
            self._failed(f"unexpected {type(exc).__name__}")

    def _why_slow(self) -> str:
        """More on that it does not answer, for a program that never did."""
        if not isinstance(self.config, StdioUpstream) or self.upstream.peer is not None:
            return ""
        return ": its command was started and has not spoken MCP yet; the log has what it wrote"

    async def _fetch(self, timeout: float) -> dict[str, _Part]:
        """Everything that the upstream offers, all kinds at once.

        Raises:
            TooSlowError: if there are no tools within `timeout` seconds; other kinds are left out for that.
            ConnectNeeded, UpstreamLost, UpstreamRefused, StoreUnavailable: see `AuthorizedUpstream.list_all`.
        """
        parts: dict[str, _Part] = {}

        async def fetch(method: str, key: str) -> None:
            try:
                items, ttl = await self.upstream.list_all(self._principal, method, key)
                parts[key] = _Part(tuple(items), ttl)
            except (UpstreamLost, UpstreamRefused, ConnectNeeded, StoreUnavailable) as exc:
                parts[key] = _Part(trouble=str(exc))

        failure: ConnectNeeded | UpstreamLost | UpstreamRefused | StoreUnavailable | None = None
        with trio.move_on_after(timeout):
            peer = await self.upstream.meet(self._principal)
            async with trio.open_nursery() as nursery:
                for method, key, capability in _OTHERS:
                    if capability in peer.capabilities:
                        parts[key] = _Part(trouble=f"no {method} within {timeout:g} s")
                        nursery.start_soon(fetch, method, key)
                try:
                    items, ttl = await self.upstream.list_all(self._principal, *_TOOLS)
                    parts["tools"] = _Part(tuple(items), ttl)
                except (ConnectNeeded, UpstreamLost, UpstreamRefused, StoreUnavailable) as exc:
                    failure = exc  # raised outside, where no nursery wraps it
                    nursery.cancel_scope.cancel("no tools")
        if failure is not None:
            raise failure
        if "tools" not in parts:
            raise trio.TooSlowError
        return parts

    def _listed(self, parts: dict[str, _Part]) -> None:
        config, before = self.config, self.source
        peer = self.upstream.peer
        title = peer.server.get("title") if peer is not None else None
        display = config.display_name or (title if isinstance(title, str) and title else config.name)
        troubles = {key: part.trouble for key, part in parts.items() if part.trouble is not None}
        for key, trouble in troubles.items():
            if self.troubles.get(key) != trouble:  # once, not at every attempt
                log.warning("upstream %s: its %s could not be listed: %s", config.name, key, trouble)
        self.troubles = troubles

        def kept(key: str) -> tuple[Json, ...]:
            part = parts.get(key)
            if part is None or part.trouble is None:
                return () if part is None else part.items
            return () if before is None else self._items_of(before, key)

        drafts = self.upstream.drafts.take(parts["tools"].items)
        source = Source(
            config.name,
            config.prefix,
            display,
            tuple(draft.tool for draft in drafts),
            config.tools.include,
            config.tools.exclude,
            prompts=kept("prompts"),
            resources=kept("resources"),
            templates=kept("resourceTemplates"),
            capabilities=peer.capabilities if peer is not None else {},
            drafts=drafts,
        )
        if self._failures:
            log.info("upstream %s answers again, after %d failures", config.name, self._failures)
        lives = [part.ttl for part in parts.values() if part.ttl is not None]
        life, now = min([LONGEST_TTL, *lives]) if lives else DEFAULT_TTL, trio.current_time()
        fresh = max(life, SHORTEST_TTL)
        self._good_until, self._due_at, self._fresh_until = now + life, now + AHEAD * fresh, now + fresh
        self._failures, self._retry_at, self.error = 0, -1.0, None
        self._told.clear()
        self._offer(source, needs_login=False)

    @staticmethod
    def _items_of(source: Source, key: str) -> tuple[Json, ...]:
        by_key = {"prompts": source.prompts, "resources": source.resources, "resourceTemplates": source.templates}
        return by_key[key]

    def _asks_for_login(self, reason: str) -> None:
        """An answer, not a failure: it is asked again when somebody wants to know, not behind everybody's back."""
        self.troubles = {}
        self._failures, self._retry_at, self.error = 0, -1.0, reason
        self._told.clear()
        self._due_at = self._fresh_until = trio.current_time() + DEFAULT_TTL
        self._offer(None, needs_login=True)

    def _offer(self, source: Source | None, *, needs_login: bool) -> None:
        if source == self.source and needs_login == self.needs_login:
            return
        self.source, self.needs_login = source, needs_login
        self.version += 1
        self._on_change(self)

    def _failed(self, error: str, *, same: str | None = None, is_told: bool = False, retry_after: float = 0.0) -> None:
        """`same` is what errors are compared by, where their texts tell of a moment. The log has one that `is_told`."""
        known = error if same is None else same
        if known not in self._told and not is_told:  # once, not at every attempt
            log.warning("upstream %s: %s", self.config.name, error)
            if len(self._told) >= TOLD:
                self._told.clear()
            self._told.add(known)
        self._failures += 1
        self.upstream.doubt()  # it may have been replaced by another version of itself
        last = min(LAST_RETRY, self._retry.max_delay)
        delay = max(min(FIRST_RETRY * 2 ** min(self._failures - 1, 16), last), min(retry_after, LONGEST_TTL))
        self._retry_at = trio.current_time() + delay * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
        self.error = error


def why_refused(exc: UpstreamRefused) -> str:
    """What an upstream's HTTP status means for whoever asked it."""
    if exc.status in (401, 403):
        return f"{exc}: it wants credentials that are not configured for it, or refuses those that are"
    if exc.retry_after is not None:
        return f"{exc}; it asks to wait {exc.retry_after:g} s"
    return str(exc)
