"""Keeping upstreams open as configurations come and go.

One task per upstream opens it, holds it as long as it is configured, lets the
calls that it began come to their end, and closes it; everything that an upstream
runs meanwhile runs in that task's nursery. An upstream whose configuration is
equal stays as it is, with its process, its sessions and what is known of it. This
file must not know what an upstream is asked, nor where configurations come from.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio

from ..config.model import StdioUpstream, Upstream
from .authorized import AuthorizedUpstream

Configured = Upstream | StdioUpstream
OpenUpstream = Callable[[Configured, trio.Nursery], AbstractAsyncContextManager[AuthorizedUpstream]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    upstream: AuthorizedUpstream
    dismissed: trio.Event = field(default_factory=trio.Event)


@dataclass(frozen=True, slots=True)
class Change:
    """What another configuration means, by name. One that `changed` is opened anew."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def change_between(before: Iterable[Configured], after: Iterable[Configured]) -> Change:
    """Of two lists of enabled upstreams."""
    old, new = {each.name: each for each in before}, {each.name: each for each in after}
    return Change(
        tuple(name for name in new if name not in old),
        tuple(name for name in new if name in old and old[name] != new[name]),
        tuple(name for name in old if name not in new),
    )


class Roster:
    """Made by `open_roster`, whose nursery has the tasks."""

    def __init__(self, nursery: trio.Nursery, open_upstream: OpenUpstream) -> None:
        self._nursery = nursery
        self._open_upstream = open_upstream
        self._members: dict[str, _Member] = {}
        self._changing = trio.Lock()

    def __repr__(self) -> str:
        return f"<Roster {len(self._members)} upstreams>"

    @property
    def upstreams(self) -> tuple[AuthorizedUpstream, ...]:
        """Those that are configured now, in the order of configuration."""
        return tuple(member.upstream for member in self._members.values())

    @property
    def configured(self) -> tuple[Configured, ...]:
        return tuple(_config_of(member) for member in self._members.values())

    @asynccontextmanager
    async def becoming(self, wanted: Iterable[Configured]) -> AsyncIterator[tuple[AuthorizedUpstream, ...]]:
        """The upstreams of another configuration, all open. When the block is left they are the ones that there are,
        and those that are not among them are closed after their calls; when it fails, everything is as before."""
        async with self._changing:
            members: dict[str, _Member] = {}
            with self._undone(members):
                for config in wanted:
                    member = self._members.get(config.name)
                    if member is None or _config_of(member) != config:
                        member = await self._nursery.start(self._keep_open, config)
                    members[config.name] = member
                yield tuple(member.upstream for member in members.values())
            gone = set(self._members.values()) - set(members.values())
            self._members = members
            for member in gone:
                member.dismissed.set()

    @contextmanager
    def _undone(self, members: dict[str, _Member]) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for member in set(members.values()) - set(self._members.values()):
                member.dismissed.set()
            raise

    async def _keep_open(
        self, config: Configured, task_status: trio.TaskStatus[_Member] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with trio.open_nursery() as nursery:
            async with self._open_upstream(config, nursery) as upstream:
                member = _Member(upstream)
                task_status.started(member)
                await member.dismissed.wait()
                await upstream.wait_unused()
                log.info("upstream %s: closed, it is no longer configured so", config.name)
            nursery.cancel_scope.cancel("upstream closed")


@asynccontextmanager
async def open_roster(open_upstream: OpenUpstream, wanted: Iterable[Configured]) -> AsyncIterator[Roster]:
    """The upstreams of a configuration, which may become those of another one. All are closed on exit, bounded."""
    async with trio.open_nursery() as nursery:
        roster = Roster(nursery, open_upstream)
        async with roster.becoming(wanted):
            pass
        yield roster
        nursery.cancel_scope.cancel("roster closed")


def _config_of(member: _Member) -> Configured:
    config = member.upstream.config
    assert isinstance(config, Upstream | StdioUpstream)
    return config
