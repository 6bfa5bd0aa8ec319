"""The store of one process that forgets everything when it ends.

Each method changes state between two checkpoints, so a cancelled call has
either done all of its work or none. This file does not know what the records mean.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import assert_never

import trio

from ..errors import StoreUnavailable
from ..protocol.principal import Principal
from . import (
    UNUSED_FOR,
    Connection,
    Gone,
    Grant,
    LoginToken,
    OldRow,
    Redeemed,
    Replayed,
    Rotated,
    Store,
    UpstreamRegistration,
)
from .grants import KEPT_AFTER_THE_END, is_live, is_meant, is_past_keeping, redemption, rotation
from .memory_traffic import MemoryTraffic


@dataclass(frozen=True, slots=True)
class _Login:
    token: LoginToken
    next_check_at: float
    kept_until: float


class MemoryStore(MemoryTraffic):
    def __init__(self, *, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._spent: dict[str, float] = {}
        self._grants: dict[str, Grant] = {}
        self._connections: dict[tuple[str, str], Connection] = {}
        self._registrations: dict[tuple[str, str], UpstreamRegistration] = {}
        self._logins: dict[str, _Login] = {}
        self._sign_outs: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._grants)} grants, {len(self._connections)} connections>"

    async def consume(self, ticket: str, *, expires_at: float) -> bool:
        await trio.lowlevel.checkpoint()
        return self._spend(ticket, expires_at)

    async def is_consumed(self, ticket: str) -> bool:
        await trio.lowlevel.checkpoint()
        return ticket in self._spent

    async def add_grant(self, grant: Grant) -> bool:
        # No consent is kept beside it: nothing asks for consents, and here they would die with the grants anyway.
        await trio.lowlevel.checkpoint()
        for who in (("person", grant.principal.key), ("client", grant.client)):
            if self._sign_outs.get(who, -1.0) >= grant.logged_in_at:
                return False
        if grant.id in self._grants:
            raise StoreUnavailable("a grant with this id exists already; ids must be random")
        self._grants[grant.id] = grant
        return True

    async def redeem(
        self, code: str, grant_id: str, *, now: float, expires_at: float, grant_until: float
    ) -> Redeemed | Replayed | Gone:
        await trio.lowlevel.checkpoint()
        outcome = redemption(
            self._grants.get(grant_id),
            grant_id,
            first_use=self._spend(code, expires_at),
            now=now,
            grant_until=grant_until,
        )
        self._apply(outcome, now)
        return outcome

    async def rotate(self, grant_id: str, generation: int, *, now: float) -> Rotated | Replayed | Gone:
        await trio.lowlevel.checkpoint()
        outcome = rotation(self._grants.get(grant_id), generation=generation, now=now)
        self._apply(outcome, now)
        return outcome

    async def find_grant(self, grant_id: str) -> Grant | None:
        await trio.lowlevel.checkpoint()
        return self._grants.get(grant_id)

    async def grants_of(self, principal: Principal) -> tuple[Grant, ...]:
        await trio.lowlevel.checkpoint()
        return self._live(self._clock(), lambda grant: grant.principal == principal)

    async def find_grants(self, name: str) -> tuple[Grant, ...]:
        await trio.lowlevel.checkpoint()
        return self._live(self._clock(), lambda grant: is_meant(grant, name))

    async def last_login(self, principal: Principal) -> float | None:
        await trio.lowlevel.checkpoint()
        times = [grant.logged_in_at for grant in self._grants.values() if grant.principal == principal]
        return max(times, default=None)

    async def revoke_grant(self, grant_id: str, *, now: float) -> bool:
        await trio.lowlevel.checkpoint()
        return self._revoke(grant_id, now)

    async def sign_out_person(self, principal: Principal, *, now: float) -> tuple[Grant, ...]:
        await trio.lowlevel.checkpoint()
        self._sign_outs["person", principal.key] = now
        return self._end_all(now, lambda grant: grant.principal == principal)

    async def sign_out_client(self, client: str, *, now: float) -> tuple[Grant, ...]:
        await trio.lowlevel.checkpoint()
        self._sign_outs["client", client] = now
        return self._end_all(now, lambda grant: grant.client == client)

    async def signed_out_at(self, principal: Principal) -> float | None:
        await trio.lowlevel.checkpoint()
        return self._sign_outs.get(("person", principal.key))

    async def revoked_since(self, since: float) -> frozenset[str]:
        await trio.lowlevel.checkpoint()
        return frozenset(
            grant.id for grant in self._grants.values() if grant.revoked_at is not None and grant.revoked_at >= since
        )

    async def keep_login_token(
        self, login_id: str, refresh_token: str, *, next_check_at: float, kept_until: float
    ) -> None:
        await trio.lowlevel.checkpoint()
        self._logins[login_id] = _Login(LoginToken(login_id, refresh_token, 0), next_check_at, kept_until)

    async def forget_login_token(self, login_id: str) -> bool:
        await trio.lowlevel.checkpoint()
        return self._logins.pop(login_id, None) is not None

    async def take_login_check(self, grant_id: str, *, now: float, next_check_at: float) -> LoginToken | None:
        await trio.lowlevel.checkpoint()
        login, grant = self._logins.get(grant_id), self._grants.get(grant_id)
        if login is None or grant is None or not is_live(grant, now=now) or login.next_check_at > now:
            return None
        self._logins[grant_id] = replace(login, next_check_at=next_check_at)
        return login.token

    async def renew_login_token(self, token: LoginToken, refresh_token: str) -> bool:
        await trio.lowlevel.checkpoint()
        login = self._logins.get(token.id)
        if login is None or login.token.generation != token.generation:
            return False
        renewed = LoginToken(token.id, refresh_token, token.generation + 1)
        self._logins[token.id] = replace(login, token=renewed)
        return True

    async def end_login(self, token: LoginToken, *, now: float) -> bool:
        await trio.lowlevel.checkpoint()
        login = self._logins.get(token.id)
        return login is not None and login.token.generation == token.generation and self._revoke(token.id, now)

    async def save_connection(self, connection: Connection) -> None:
        await trio.lowlevel.checkpoint()
        self._put(connection)

    async def find_connection(self, principal: Principal, upstream: str) -> Connection | None:
        await trio.lowlevel.checkpoint()
        return self._connections.get((principal.key, upstream))

    async def connections_of(self, principal: Principal) -> tuple[Connection, ...]:
        await trio.lowlevel.checkpoint()
        found = [connection for connection in self._connections.values() if connection.principal == principal]
        return tuple(sorted(found, key=lambda connection: connection.upstream))

    async def take_refresh(self, connection: Connection, *, owner: str, now: float, until: float) -> Connection | None:
        await trio.lowlevel.checkpoint()
        current = self._current(connection)
        if current is None or (current.next_try_at is not None and current.next_try_at > now):
            return None
        if current.lease_until is not None and current.lease_until > now and current.lease_owner != owner:
            return None
        return self._put(replace(current, lease_owner=owner, lease_until=until))

    async def renew_connection(
        self,
        connection: Connection,
        *,
        access_token: str,
        refresh_token: str | None,
        token_type: str,
        scope: str | None,
        issued_at: float,
        expires_at: float | None,
    ) -> bool:
        await trio.lowlevel.checkpoint()
        current = self._current(connection)
        if current is None:
            return False
        renewed = replace(
            current,
            access_token=access_token,
            refresh_token=current.refresh_token if refresh_token is None else refresh_token,
            token_type=token_type,
            scope=current.scope if scope is None else scope,
            issued_at=issued_at,
            expires_at=expires_at,
            generation=current.generation + 1,
            reason=None,
            failures=0,
            next_try_at=None,
        )
        self._put(_unleased(renewed))
        return True

    async def postpone_refresh(self, connection: Connection, *, reason: str, next_try_at: float) -> bool:
        await trio.lowlevel.checkpoint()
        current = self._current(connection)
        if current is None or current.lease_owner != connection.lease_owner:
            return False
        failures = current.failures + 1
        self._put(_unleased(replace(current, reason=reason, failures=failures, next_try_at=next_try_at)))
        return True

    async def want_scope(self, connection: Connection, scope: str) -> bool:
        await trio.lowlevel.checkpoint()
        current = self._connections.get((connection.principal.key, connection.upstream))
        if current is None or current.id != connection.id:
            return False
        self._put(replace(current, wanted_scope=scope))
        return True

    async def note_use(self, connection: Connection, *, now: float) -> None:
        await trio.lowlevel.checkpoint()
        current = self._connections.get((connection.principal.key, connection.upstream))
        if current is not None and current.id == connection.id:
            self._put(replace(current, used_at=now))

    async def end_connection(self, connection: Connection, *, reason: str) -> bool:
        await trio.lowlevel.checkpoint()
        current = self._current(connection)
        if current is None or current.lease_owner != connection.lease_owner:
            return False
        ended = replace(current, state="needs_login", access_token=None, refresh_token=None, reason=reason)
        self._put(_unleased(replace(ended, failures=0, next_try_at=None)))
        return True

    async def forget_connection(self, principal: Principal, upstream: str) -> Connection | None:
        await trio.lowlevel.checkpoint()
        return self._connections.pop((principal.key, upstream), None)

    async def save_registration(self, registration: UpstreamRegistration) -> None:
        await trio.lowlevel.checkpoint()
        self._registrations[registration.upstream, registration.issuer] = registration

    async def find_registration(self, upstream: str, issuer: str) -> UpstreamRegistration | None:
        await trio.lowlevel.checkpoint()
        return self._registrations.get((upstream, issuer))

    async def forget_registration(self, upstream: str, issuer: str, client_id: str) -> bool:
        await trio.lowlevel.checkpoint()
        found = self._registrations.get((upstream, issuer))
        if found is None or found.client_id != client_id:
            return False
        del self._registrations[upstream, issuer]
        return True

    async def old_rows(self) -> tuple[OldRow, ...]:
        await trio.lowlevel.checkpoint()
        return ()  # nothing is encrypted here

    async def reencrypt(self, row: OldRow) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    async def announce_key(self, *, now: float) -> bool:
        await trio.lowlevel.checkpoint()
        return True  # no other process can be here

    async def purge(self, *, now: float) -> int:
        await trio.lowlevel.checkpoint()
        tickets = [ticket for ticket, expires_at in self._spent.items() if expires_at <= now]
        ended = [grant.id for grant in self._grants.values() if is_past_keeping(grant, now=now)]
        for ticket in tickets:
            del self._spent[ticket]
        for grant_id in ended:
            del self._grants[grant_id]
        logins = [
            login_id
            for login_id, login in self._logins.items()
            if login.kept_until <= now
            and not ((grant := self._grants.get(login_id)) is not None and is_live(grant, now=now))
        ]
        for login_id in logins:
            del self._logins[login_id]
        past = [who for who, at in self._sign_outs.items() if at < now - KEPT_AFTER_THE_END]
        for who in past:
            del self._sign_outs[who]
        unused = self._drop_unused(now)
        return len(tickets) + len(ended) + len(logins) + len(past) + unused + self.purge_traffic(now)

    async def check(self) -> None:
        await trio.lowlevel.checkpoint()

    def _drop_unused(self, now: float) -> int:
        unused = []
        for key, connection in self._connections.items():
            if connection.used_at is None:
                self._connections[key] = replace(connection, used_at=now)
            elif connection.used_at <= now - UNUSED_FOR:
                unused.append(key)
        for key in unused:
            del self._connections[key]
        return len(unused)

    def _put(self, connection: Connection) -> Connection:
        self._connections[connection.principal.key, connection.upstream] = connection
        return connection

    def _current(self, held: Connection) -> Connection | None:
        """What is stored, if it is `held` and connected."""
        found = self._connections.get((held.principal.key, held.upstream))
        if found is None or (found.id, found.generation, found.state) != (held.id, held.generation, "connected"):
            return None
        return found

    def _spend(self, ticket: str, expires_at: float) -> bool:
        if ticket in self._spent:
            return False
        self._spent[ticket] = expires_at
        return True

    def _revoke(self, grant_id: str, now: float) -> bool:
        grant = self._grants.get(grant_id)
        if grant is None or grant.revoked_at is not None:
            return False
        self._grants[grant_id] = replace(grant, revoked_at=now)
        self._logins.pop(grant_id, None)
        return True

    def _live(self, now: float, wanted: Callable[[Grant], bool]) -> tuple[Grant, ...]:
        found = [grant for grant in self._grants.values() if is_live(grant, now=now) and wanted(grant)]
        return tuple(sorted(found, key=lambda grant: (-grant.created_at, grant.id)))

    def _end_all(self, now: float, wanted: Callable[[Grant], bool]) -> tuple[Grant, ...]:
        ended = self._live(now, wanted)
        for grant in ended:
            self._revoke(grant.id, now)
        return ended

    def _apply(self, outcome: Redeemed | Rotated | Replayed | Gone, now: float) -> None:
        match outcome:
            case Redeemed(grant) | Rotated(grant):
                self._grants[grant.id] = grant
            case Replayed(grant_id):
                self._revoke(grant_id, now)
            case Gone():
                pass
            case _:
                assert_never(outcome)


def _unleased(connection: Connection) -> Connection:
    return replace(connection, lease_owner=None, lease_until=None)


@asynccontextmanager
async def open_memory_store(*, clock: Callable[[], float] = time.time) -> AsyncIterator[Store]:
    """A store for one process. `clock` says which grants `grants_of` counts as live."""
    yield MemoryStore(clock=clock)
