"""Asking the identity provider again about a person whose client refreshes: are they still let in?

At most one check per grant in `CHECK_INTERVAL`, whichever process; the store
gives them out. A check runs in a task of ours and not in the request that
caused it: what the provider has rotated is kept even if the client is gone. Only
a clear no ends a grant. This file must not know how the provider is asked.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, assert_never

import trio

from ...errors import IdentityProviderUnavailable, LoginRefused, StoreUnavailable
from ...protocol.oidc import Refreshed, Withdrawn
from ...protocol.principal import Principal
from ...store import Grant, LoginToken, Store

CHECK_INTERVAL = 300.0  # seconds; must be longer than any exchange, since it is also the lease of the one who checks
PATIENCE = 5.0  # seconds that a client waits for the answer; after that it gets its tokens, and the check goes on
CLOSING = 3.0  # seconds that checks under way get when the block is left
FIRST_RETRY, LAST_RETRY = 0.5, 30.0  # seconds, while the store is away

log = logging.getLogger(__name__)


class Provider(Protocol):
    """The identity provider, as far as it can be asked without the person."""

    async def refresh(self, refresh_token: str, principal: Principal) -> Refreshed | Withdrawn:
        """Ask with the refresh token of a login of `principal`.

        Raises:
            IdentityProviderUnavailable: if it does not say.
        """
        ...

    async def readmit(self, refreshed: Refreshed, principal: Principal) -> None:
        """Look again at who the person is by now.

        Raises:
            LoginRefused: if the person may not come in any more.
            IdentityProviderUnavailable: if that cannot be told.
        """
        ...


class _Check:
    """One that is under way, or over."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.ended_the_grant = False


class LoginChecks:
    """Made by `open_login_checks`, whose nursery owns the checks."""

    def __init__(self, nursery: trio.Nursery, store: Store, provider: Provider, clock: Callable[[], float]) -> None:
        self._nursery = nursery
        self._store = store
        self._provider = provider
        self._clock = clock
        self._under_way: dict[str, _Check] = {}
        self._is_silent = False

    def __repr__(self) -> str:
        return f"<LoginChecks {len(self._under_way)} under way{', no answer' if self._is_silent else ''}>"

    async def may_go_on(self, grant: Grant) -> bool:
        """Whether nothing speaks against the grant; waits `PATIENCE` at most, and silence does not speak against it.

        Raises:
            StoreUnavailable: if it is not known whether a check is due.
        """
        check = self._under_way.get(grant.id)
        if check is None:
            now = self._clock()
            token = await self._store.take_login_check(grant.id, now=now, next_check_at=now + CHECK_INTERVAL)
            if token is None:
                return True
            check = self._under_way[grant.id] = _Check()
            self._nursery.start_soon(self._run, check, token, grant.principal)
        with trio.move_on_after(PATIENCE):
            await check.over.wait()
        return not check.ended_the_grant

    async def _run(self, check: _Check, token: LoginToken, principal: Principal) -> None:
        try:
            check.ended_the_grant = await self._ask(token, principal)
        finally:
            del self._under_way[token.id]
            check.over.set()

    async def _ask(self, token: LoginToken, principal: Principal) -> bool:
        """Whether the answer is a clear no."""
        try:
            answer = await self._provider.refresh(token.refresh_token, principal)
            self._note(None)
            match answer:
                case Withdrawn(words):
                    return await self._end(token, principal, f"the identity provider says no: {words}")
                case Refreshed(refresh_token=renewed):
                    if renewed is not None and renewed != token.refresh_token:
                        await self._keep(token, renewed)
                        token = LoginToken(token.id, renewed, token.generation + 1)
                    await self._provider.readmit(answer, principal)
                    return False
                case _:
                    assert_never(answer)
        except LoginRefused as exc:
            return await self._end(token, principal, str(exc))
        except IdentityProviderUnavailable as exc:
            self._note(str(exc))
            return False

    async def _keep(self, token: LoginToken, renewed: str) -> None:
        """Put the renewed token into the store, however long that takes: the old one is void."""
        delay = FIRST_RETRY
        while True:
            try:
                with trio.CancelScope(shield=True):  # as long as one write of the store takes
                    kept = await self._store.renew_login_token(token, renewed)
            except StoreUnavailable as exc:
                if delay == FIRST_RETRY:
                    log.error("what the identity provider renewed for grant %s waits for the store: %s", token.id, exc)
                await trio.sleep(delay)
                delay = min(delay * 2, LAST_RETRY)
            else:
                if not kept:
                    log.info("grant %s has ended while its login was checked", token.id)
                return

    async def _end(self, token: LoginToken, principal: Principal, why: str) -> bool:
        """End the grant, unless another process has renewed its token meanwhile: then the answer was to an old one."""
        try:
            ended = await self._store.end_login(token, now=self._clock())
        except StoreUnavailable as exc:
            log.error(
                "grant %s of %s must end (%s), but the store cannot be written: %s", token.id, principal.key, why, exc
            )
            return True
        if ended:
            log.info("grant %s of %s has ended: %s", token.id, principal.key, why)
        return ended

    def _note(self, trouble: str | None) -> None:
        if trouble is not None and not self._is_silent:
            log.warning("logins cannot be checked again: %s; their grants go on until auth.reloginAfter", trouble)
        elif trouble is None and self._is_silent:
            log.info("logins can be checked again")
        self._is_silent = trouble is not None


@asynccontextmanager
async def open_login_checks(
    store: Store, provider: Provider, *, clock: Callable[[], float]
) -> AsyncIterator[LoginChecks]:
    """Checks of logins against `provider`; those under way get `CLOSING` seconds when the block is left."""
    async with trio.open_nursery() as nursery:
        yield LoginChecks(nursery, store, provider, clock)
        nursery.cancel_scope.deadline = trio.current_time() + CLOSING
