"""Local mode: logging in with a browser on another machine, whose person pastes back the address that it ended at.

`mcp-aggregator login --no-browser` over SSH has no browser that could come back to
us. A program begins the login here, and brings the answer. What is checked is what
`connect_callback` checks, but for the cookie: this process remembers the login
itself, for as long as a login may take, and gives it up to the first answer.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from ...config.model import Config, Upstream
from ...errors import Refusal, UpstreamLost
from ...protocol.brokering import Beginning
from ...protocol.brokering.pasted import MAX_PASTED, parse_pasted, state_of
from ...protocol.oauth.sealed import FLOW_LIFETIME
from ...protocol.oauth.site import Site
from ...protocol.oauth.words import display_name
from ...protocol.principal import Principal
from ...store import Store
from ..authentication import Authentication
from ..http import Request, Route
from ..people.accounts import Accounts
from ..people.connect_callback import redeem_and_save
from ..people.connecting import personal_of, sentence, way_back
from .control import PATH, answered

MAX_PENDING = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Login:
    principal: Principal
    beginning: Beginning
    until: float  # trio's clock


class PendingLogins:
    """Those begun by hand, by `state`; the oldest makes room."""

    def __init__(self) -> None:
        self._logins: OrderedDict[str, _Login] = OrderedDict()

    def __repr__(self) -> str:
        return f"<PendingLogins {len(self._logins)}>"

    def add(self, state: str, principal: Principal, beginning: Beginning) -> None:
        self._logins[state] = _Login(principal, beginning, trio.current_time() + FLOW_LIFETIME)
        while len(self._logins) > MAX_PENDING:
            self._logins.popitem(last=False)

    def find(self, state: str, principal: Principal) -> Beginning:
        """
        Raises:
            Refusal: 400 if there is none, or not any more.
        """
        login = self._logins.get(state)
        if login is None or login.principal != principal or login.until <= trio.current_time():
            told = "No login that was begun here within the last ten minutes has this answer; begin again."
            raise Refusal(400, "invalid_request", told)
        return login.beginning

    def clients_of(self, principal: Principal, upstream: str) -> frozenset[str]:
        """As whom the person has gone to the upstream's authorization server and not come back."""
        mine = (login.beginning for login in self._logins.values() if login.principal == principal)
        return frozenset(beginning.client_id for beginning in mine if beginning.upstream == upstream)

    def spend(self, state: str) -> None:
        self._logins.pop(state, None)


@dataclass(frozen=True, slots=True)
class LoginByHand:
    """What the two requests need."""

    config: Config
    site: Site
    store: Store
    accounts: Accounts
    pending: PendingLogins

    async def begin(self, person: Principal, request: Request) -> Mapping[str, Any]:
        """Where the person goes with any browser, and where that will end.

        Raises:
            Refusal: 404 for an upstream without a login, 502 if there is no way to it now.
        """
        upstream = self._named(_field(request, "upstream"))
        state = secrets.token_urlsafe(24)
        stored = await self.store.find_connection(person, upstream.name)
        try:
            beginning = await self.accounts.oauth.begin(
                upstream,
                challenge=await self.accounts.upstreams[upstream.name].ask_challenge(),
                wanted_scope=None if stored is None else stored.wanted_scope,
                state=state,
                redirect_uri=await way_back(self.config, self.site, self.accounts, upstream, state),
                unanswered=self.pending.clients_of(person, upstream.name),
            )
        except UpstreamLost as exc:
            self._forget(state)
            raise Refusal(502, "server_error", sentence(str(exc))) from exc
        self.pending.add(state, person, beginning)
        return {"url": beginning.url, "endsAt": beginning.redirect_uri}

    async def finish(self, person: Principal, request: Request) -> Mapping[str, Any]:
        """The account that is connected now.

        Raises:
            Refusal: 400 for what is no answer to a login begun here, 403 if nothing was allowed or somebody else
                answers, 502 if there are no tokens.
            StoreUnavailable: if they cannot be remembered.
        """
        pasted = _field(request, "pasted")
        state = state_of(pasted)
        beginning = self.pending.find(state, person)
        parameters = parse_pasted(pasted, redirect_uri=beginning.redirect_uri, state=state)
        upstream = self._named(beginning.upstream)
        self.accounts.oauth.check_answer(beginning, parameters)
        self.pending.spend(state)  # from here on this answer is worth nothing to whoever brings it again
        self._forget(state)
        if "error" in parameters:
            log.warning("request %s: %s answered with an error", request.request_id, upstream.name)
            raise Refusal(403, "access_denied", "Its authorization server did not allow the login.")
        # Tokens that nobody else has are about to exist: they are not lost because a terminal is closed.
        with trio.CancelScope(shield=True):
            try:
                issued = await redeem_and_save(self.accounts, person, upstream, beginning, parameters["code"])
            except UpstreamLost as exc:
                log.warning("request %s: %s: no tokens: %s", request.request_id, upstream.name, exc)
                raise Refusal(502, "server_error", sentence(str(exc))) from exc
        return {"connected": upstream.name, "account": display_name(issued.account or "") or None}

    def _named(self, name: str) -> Upstream:
        for upstream in personal_of(self.config):
            if upstream.name == name:
                return upstream
        raise Refusal(404, "not_found", f"There is no login to an upstream called {name[:40]!r}.")

    def _forget(self, state: str) -> None:
        if self.accounts.returns is not None:
            self.accounts.returns.forget(state)


def by_hand_routes(login: LoginByHand, authentication: Authentication) -> tuple[Route, ...]:
    """For programs alone, as all of the control."""
    begin, finish = partial(answered, authentication, login.begin), partial(answered, authentication, login.finish)
    path = f"{login.site.path}{PATH}/login"
    return (
        Route(path, {"POST": begin}, body_limit=4096),
        Route(f"{path}/finish", {"POST": finish}, body_limit=2 * MAX_PASTED),
    )


def _field(request: Request, name: str) -> str:
    """
    Raises:
        Refusal: 400 if the body is not an object with that text.
    """
    try:
        value = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        value = None
    text = value.get(name) if isinstance(value, dict) else None
    if not isinstance(text, str) or not text:
        raise Refusal(400, "invalid_request", f'Send {{"{name}": "..."}}.')
    return text
