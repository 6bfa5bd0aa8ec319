"""Memory and SQLite answer every sequence of calls alike."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from aggregator.errors import StoreUnavailable
from aggregator.store import LoginToken, Store
from aggregator.store.memory import open_memory_store
from aggregator.store.sqlite import open_sqlite_store

from .samples import ADA, BOB, DAY, NOW, connection, grant, keys, registration

GRANTS = st.sampled_from(["g1", "g2", "g3"])
PEOPLE = st.sampled_from([ADA, BOB])
CLIENTS = st.sampled_from(["client-1", "client-2"])
UPSTREAMS = st.sampled_from(["gmail", "calendar"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ISSUERS = st.sampled_from(["https://as.example", "https://other.example"])
CONNECTIONS = st.sampled_from(["c1", "c2"])
HELD = st.builds(
    lambda who, upstream, connection_id, generation, owner: connection(
        principal=who, upstream=upstream, id=connection_id, generation=generation, lease_owner=owner
    ),
    PEOPLE,
    UPSTREAMS,
    CONNECTIONS,
    st.integers(0, 2),
    st.none() | st.sampled_from(["one", "other"]),
)
TICKETS = st.sampled_from(["c1", "c2", "t1"])


class TwoStores(RuleBasedStateMachine):
    """Both stores live in a trio thread of their own; each rule asks both and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.directory = tempfile.TemporaryDirectory()
        self.ready, self.done = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=trio.run, args=(self.serve,))
        self.thread.start()
        assert self.ready.wait(120)

    async def serve(self) -> None:
        async with AsyncExitStack() as stack:
            path = str(Path(self.directory.name) / "store.sqlite")
            self.stores: tuple[Store, Store] = (
                await stack.enter_async_context(open_memory_store(clock=lambda: self.now)),
                await stack.enter_async_context(open_sqlite_store(path, keys(), clock=lambda: self.now)),
            )
            self.token = trio.lowlevel.current_trio_token()
            self.ready.set()
            await trio.to_thread.run_sync(self.done.wait)

    def teardown(self) -> None:
        self.done.set()
        self.thread.join(120)
        self.directory.cleanup()

    def ask(self, call: Callable[[Store], Awaitable[Any]]) -> None:
        async def answer(store: Store) -> Any:
            try:
                return await call(store)
            except StoreUnavailable:
                return StoreUnavailable

        memory, sqlite = (trio.from_thread.run(answer, store, trio_token=self.token) for store in self.stores)
        assert memory == sqlite

    @rule(seconds=st.sampled_from([1.0, 15.0, 31.0, 3600.0, DAY, 2 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(ticket=TICKETS)
    def consume(self, ticket: str) -> None:
        self.ask(lambda store: store.consume(ticket, expires_at=self.now + 60))

    @rule(
        grant_id=GRANTS,
        who=PEOPLE,
        label=TEXTS,
        client=CLIENTS,
        lasts=st.sampled_from([0.0, 60.0, 3 * DAY]),
        ago=st.sampled_from([0.0, 10.0, 40.0]),
    )
    def add_grant(self, grant_id: str, who: Any, label: str, client: str, lasts: float, ago: float) -> None:
        added = grant(
            grant_id,
            principal=who,
            label=label,
            client=client,
            created_at=self.now,
            expires_at=self.now + lasts,
            logged_in_at=self.now - ago,
        )
        self.ask(lambda store: store.add_grant(added))

    @rule(who=PEOPLE)
    def sign_out_person(self, who: Any) -> None:
        self.ask(lambda store: store.sign_out_person(who, now=self.now))

    @rule(client=CLIENTS)
    def sign_out_client(self, client: str) -> None:
        self.ask(lambda store: store.sign_out_client(client, now=self.now))

    @rule(name=TEXTS | CLIENTS | st.sampled_from(["ada", "A CLIENT"]))
    def find_by_name(self, name: str) -> None:
        self.ask(lambda store: store.find_grants(name))

    @rule(grant_id=GRANTS, text=TEXTS, due=st.sampled_from([0.0, 300.0]), kept=st.sampled_from([0.0, 600.0]))
    def keep_login_token(self, grant_id: str, text: str, due: float, kept: float) -> None:
        due, kept = self.now + due, self.now + kept
        self.ask(lambda store: store.keep_login_token(grant_id, text, next_check_at=due, kept_until=kept))

    @rule(grant_id=GRANTS)
    def forget_login_token(self, grant_id: str) -> None:
        self.ask(lambda store: store.forget_login_token(grant_id))

    @rule(grant_id=GRANTS, next_check=st.sampled_from([0.0, 300.0]))
    def take_login_check(self, grant_id: str, next_check: float) -> None:
        at = self.now + next_check
        self.ask(lambda store: store.take_login_check(grant_id, now=self.now, next_check_at=at))

    @rule(grant_id=GRANTS, text=TEXTS, generation=st.integers(0, 2))
    def renew_login_token(self, grant_id: str, text: str, generation: int) -> None:
        self.ask(lambda store: store.renew_login_token(LoginToken(grant_id, "", generation), text))

    @rule(grant_id=GRANTS, generation=st.integers(0, 2))
    def end_login(self, grant_id: str, generation: int) -> None:
        self.ask(lambda store: store.end_login(LoginToken(grant_id, "", generation), now=self.now))

    @rule(code=TICKETS, grant_id=GRANTS)
    def redeem(self, code: str, grant_id: str) -> None:
        end = self.now + 60
        self.ask(
            lambda store: store.redeem(code, grant_id, now=self.now, expires_at=end, grant_until=self.now + 3 * DAY)
        )

    @rule(grant_id=GRANTS, generation=st.integers(0, 3))
    def rotate(self, grant_id: str, generation: int) -> None:
        self.ask(lambda store: store.rotate(grant_id, generation, now=self.now))

    @rule(grant_id=GRANTS)
    def revoke(self, grant_id: str) -> None:
        self.ask(lambda store: store.revoke_grant(grant_id, now=self.now))

    @rule(
        who=PEOPLE,
        upstream=UPSTREAMS,
        connection_id=CONNECTIONS,
        access=TEXTS,
        refresh=st.none() | TEXTS,
        end=st.none() | st.just(NOW),
    )
    def connect(self, who: Any, upstream: str, end: float | None, **rest: Any) -> None:
        saved = connection(
            principal=who,
            upstream=upstream,
            id=rest["connection_id"],
            access_token=rest["access"],
            refresh_token=rest["refresh"],
            expires_at=end,
        )
        self.ask(lambda store: store.save_connection(saved))

    @rule(held=HELD, owner=st.sampled_from(["one", "other"]), lasts=st.sampled_from([0.0, 25.0]))
    def take_refresh(self, held: Any, owner: str, lasts: float) -> None:
        self.ask(lambda store: store.take_refresh(held, owner=owner, now=self.now, until=self.now + lasts))

    @rule(held=HELD, access=TEXTS, refresh=st.none() | TEXTS, scope=st.none() | TEXTS)
    def renew(self, held: Any, access: str, refresh: str | None, scope: str | None) -> None:
        self.ask(
            lambda store: store.renew_connection(
                held,
                access_token=access,
                refresh_token=refresh,
                token_type="x",
                scope=scope,
                issued_at=self.now,
                expires_at=None,
            )
        )

    @rule(held=HELD, wait=st.sampled_from([0.0, 20.0]))
    def postpone(self, held: Any, wait: float) -> None:
        self.ask(lambda store: store.postpone_refresh(held, reason="busy", next_try_at=self.now + wait))

    @rule(held=HELD, scope=TEXTS)
    def want_scope(self, held: Any, scope: str) -> None:
        self.ask(lambda store: store.want_scope(held, scope))

    @rule(held=HELD)
    def end_connection(self, held: Any) -> None:
        self.ask(lambda store: store.end_connection(held, reason="ended"))

    @rule(who=PEOPLE, upstream=UPSTREAMS)
    def disconnect(self, who: Any, upstream: str) -> None:
        self.ask(lambda store: store.forget_connection(who, upstream))

    @rule(upstream=UPSTREAMS, issuer=ISSUERS, client=CLIENTS, secret=st.none() | TEXTS)
    def register(self, upstream: str, issuer: str, client: str, secret: str | None) -> None:
        made = registration(upstream=upstream, issuer=issuer, client_id=client, client_secret=secret)
        self.ask(lambda store: store.save_registration(made))

    @rule(upstream=UPSTREAMS, issuer=ISSUERS, client=CLIENTS)
    def unregister(self, upstream: str, issuer: str, client: str) -> None:
        self.ask(lambda store: store.forget_registration(upstream, issuer, client))

    @rule()
    def purge(self) -> None:
        self.ask(lambda store: store.purge(now=self.now))

    @rule()
    def look_at_everything(self) -> None:
        for who in (ADA, BOB):
            self.ask(lambda store, who=who: store.grants_of(who))  # type: ignore[misc]
            self.ask(lambda store, who=who: store.last_login(who))  # type: ignore[misc]
            self.ask(lambda store, who=who: store.signed_out_at(who))  # type: ignore[misc]
            self.ask(lambda store, who=who: store.connections_of(who))  # type: ignore[misc]
            for upstream in ("gmail", "calendar"):
                self.ask(lambda store, w=who, u=upstream: store.find_connection(w, u))  # type: ignore[misc]
                self.ask(lambda store, u=upstream: store.find_registration(u, "https://as.example"))  # type: ignore[misc]
        for grant_id in ("g1", "g2", "g3"):
            self.ask(lambda store, g=grant_id: store.find_grant(g))  # type: ignore[misc]
        self.ask(lambda store: store.revoked_since(self.now - 60))


TestTwoStores = TwoStores.TestCase
TestTwoStores.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
