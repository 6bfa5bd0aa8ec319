"""Upstreams with authorization servers of their own, in memory: what `web.accounts` expects, with the real contract."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urlencode, urlsplit

import trio

from aggregator.config.model import Upstream
from aggregator.errors import Refusal, StoreUnavailable, UpstreamLost
from aggregator.protocol.brokering import Beginning, IssuedTokens
from aggregator.protocol.oauth.pkce import challenge_of
from aggregator.protocol.principal import Principal
from aggregator.store import Connection, Store
from aggregator.upstream.credentials import SHARED, Standing
from aggregator.upstream.listings import UpstreamStatus
from aggregator.web.people.accounts import Accounts

GMAIL = Upstream("gmail", "https://mcp.gmail.example/mcp", "gmail", display_name="Gmail")
SLACK = Upstream("slack", "https://mcp.slack.example/mcp", "slack")
CLOCKS = Upstream("clocks", "https://clocks.example/mcp", "clocks", auth_type="none")
CHALLENGE = 'Bearer resource_metadata="https://mcp.gmail.example/.well-known/oauth-protected-resource/mcp"'


def issuer_of(upstream: str) -> str:
    return f"https://login.{upstream}.example"


@dataclass
class FakeOAuth:
    """One authorization server per upstream. A code is good once, with its verifier, at its own token endpoint."""

    promises_iss: bool = True
    gives_account: str | None = "anna@gmail.example"
    down: str | None = None
    hangs: bool = False
    begun: list[tuple[str, str, str | None]] = field(default_factory=list)  # upstream, challenge, wanted scope
    unanswered: list[frozenset[str]] = field(default_factory=list)  # for each of `begun`
    redeemed: list[str] = field(default_factory=list)
    codes: dict[str, tuple[str, str]] = field(default_factory=dict)  # issuer and challenge by code

    async def begin(
        self,
        upstream: Upstream,
        *,
        challenge: str,
        wanted_scope: str | None,
        state: str,
        redirect_uri: str,
        unanswered: Collection[str],
    ) -> Beginning:
        await trio.lowlevel.checkpoint()
        self.unanswered.append(frozenset(unanswered))
        if self.down is not None:
            raise UpstreamLost(self.down)
        self.begun.append((upstream.name, challenge, wanted_scope))
        issuer, verifier = issuer_of(upstream.name), secrets.token_urlsafe(48)
        query = {"state": state, "redirect_uri": redirect_uri, "code_challenge": challenge_of(verifier)}
        return Beginning(
            url=f"{issuer}/authorize?{urlencode(query)}",
            upstream=upstream.name,
            issuer=issuer,
            token_endpoint=f"{issuer}/token",
            iss_promised=self.promises_iss,
            client_id="mcp-aggregator",
            resource=upstream.url,
            scope="mail",
            redirect_uri=redirect_uri,
            verifier=verifier,
        )

    def check_answer(self, beginning: Beginning, parameters: Mapping[str, str]) -> None:
        issuer = parameters.get("iss")
        if issuer is None and not beginning.iss_promised:
            return
        if issuer != beginning.issuer:
            raise Refusal(403, "access_denied", "The answer is not of the authorization server that was asked.")

    async def redeem(self, beginning: Beginning, code: str) -> IssuedTokens:
        self.redeemed.append(code)
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.codes.pop(code, None) != (beginning.issuer, challenge_of(beginning.verifier)):
            raise UpstreamLost("its authorization server refuses the code: invalid_grant")
        return IssuedTokens("at-" + code, "rt-" + code, "Bearer", "mail", 3600.0, self.gives_account)

    def allow(self, url: str, **changes: str | None) -> str:
        """Where the server at `url` sends a browser that allows access: the path of our callback."""
        parts = urlsplit(url)
        query, issuer = dict(parse_qsl(parts.query)), f"{parts.scheme}://{parts.netloc}"
        code = secrets.token_urlsafe(8)
        self.codes[code] = (issuer, query["code_challenge"])
        answer: dict[str, str | None] = {"code": code, "state": query["state"], "iss": issuer, **changes}
        given = urlencode({name: value for name, value in answer.items() if value is not None})
        return f"{urlsplit(query['redirect_uri']).path}?{given}"


@dataclass
class FakeConnecting:
    """What people have connected, by person and upstream."""

    saved: dict[tuple[Principal, str], IssuedTokens] = field(default_factory=dict)
    ended: set[tuple[Principal, str]] = field(default_factory=set)  # connections that need a new login
    store: Store | None = None  # where pages look for what is connected
    slow: float = 0.0
    failures: int = 0  # of the store, still to come

    async def save(self, principal: Principal, upstream: str, beginning: Beginning, issued: IssuedTokens) -> None:
        assert beginning.upstream == upstream
        await trio.sleep(self.slow)
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the disk is gone")
        if self.store is not None:
            row = Connection(
                principal, upstream, f"row of {principal.key}", issued.access_token, None, account=issued.account
            )
            await self.store.save_connection(row)
        self.saved[principal, upstream] = issued
        self.ended.discard((principal, upstream))

    async def disconnect(self, principal: Principal, upstream: str) -> bool:
        await trio.lowlevel.checkpoint()
        if self.store is not None:
            await self.store.forget_connection(principal, upstream)
        return self.saved.pop((principal, upstream), None) is not None

    def standing(self, principal: Principal, upstream: Upstream) -> Standing:
        issued = self.saved.get((principal, upstream.name))
        if issued is None:
            return SHARED
        if (principal, upstream.name) in self.ended:
            return Standing(state="needs_login", reason="the login there has expired", account=issued.account)
        return Standing(owner=f"{principal.key} {upstream.name}", state="connected", account=issued.account)


@dataclass
class FakeChallenge:
    async def ask_challenge(self) -> str:
        await trio.lowlevel.checkpoint()
        return CHALLENGE


@dataclass
class FakeAccounts:
    """All of it, for these upstreams."""

    upstreams: tuple[Upstream, ...] = (GMAIL, SLACK, CLOCKS)
    oauth: FakeOAuth = field(default_factory=FakeOAuth)
    connecting: FakeConnecting = field(default_factory=FakeConnecting)
    overrides: dict[str, UpstreamStatus] = field(default_factory=dict)

    def accounts(self) -> Accounts:
        return Accounts(
            self.oauth, self.connecting, {each.name: FakeChallenge() for each in self.upstreams}, self.statuses
        )

    async def statuses(self, principal: Principal) -> Sequence[UpstreamStatus]:
        await trio.lowlevel.checkpoint()
        return [self.overrides.get(each.name) or self._status(principal, each) for each in self.upstreams]

    def _status(self, principal: Principal, upstream: Upstream) -> UpstreamStatus:
        standing = self.connecting.standing(principal, upstream)
        waits = standing.state == "needs_login" or (upstream.auth_type == "user" and standing is SHARED)
        return status_of(upstream.name, "needs_login" if waits else "connected", standing)


def status_of(
    name: str, state: str, standing: Standing = SHARED, *, error: str | None = None, tools: int = 3
) -> UpstreamStatus:
    return UpstreamStatus(name, state, tools, "2026-07-28", 0.01, standing.reason or error, False, (), standing)


def sharing(path: str, *upstreams: Upstream) -> tuple[Upstream, ...]:
    """The upstreams with one callback path for all."""
    return tuple(replace(each, account=replace(each.account, callback_path=path)) for each in upstreams)
