"""Everything of the OAuth flow that travels sealed: in cookies, hidden fields, codes and tokens.

Each value has a purpose of its own, so that none can pass for another. This
file owns what is inside; it must not know when a value is made or accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from ...errors import Unsealable
from ..principal import Person, Principal
from ..sealing import KeyRing, Purpose
from .authorization import Answer, Asked

FLOW_LIFETIME = 600.0  # ten minutes to log in, and ten more to decide
CODE_PREFIX, ACCESS_PREFIX, REFRESH_PREFIX = "mcpa_ac_", "mcpa_at_", "mcpa_rt_"  # secret scanners find them

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flow:
    """A login that has begun: what the client asked, and what the identity provider's answer is checked against."""

    id: str
    asked: Asked
    nonce: str
    verifier: str
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """A login that has ended: the consent page asks this `person` whether `asked` is wanted."""

    id: str
    asked: Asked
    person: Person
    csrf: str
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code (OAuth 2.1 4.1.2), bound to client, redirect URI, challenge and resource."""

    id: str
    grant_id: str
    client: str
    redirect_uri: str
    challenge: str
    resource: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class AccessToken:
    grant_id: str
    client: str
    principal: Principal
    scope: str
    resource: str
    issuer: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class RefreshToken:
    grant_id: str
    generation: int
    client: str
    resource: str
    expires_at: float


def seal_flow(keys: KeyRing, flow: Flow, *, now: float) -> str:
    payload = {"id": flow.id, "asked": asdict(flow.asked), "nonce": flow.nonce, "verifier": flow.verifier}
    return keys.seal(Purpose.FLOW, payload, now=now, lifetime=FLOW_LIFETIME)


def open_flow(keys: KeyRing, text: str, *, now: float) -> Flow:
    payload = keys.open(Purpose.FLOW, text, now=now)
    return made_of(lambda p: Flow(p["id"], Asked(**p["asked"]), p["nonce"], p["verifier"], p["iat"]), payload)


def seal_question(keys: KeyRing, question: Question, *, now: float) -> str:
    person = question.person
    payload = {
        "id": question.id,
        "asked": asdict(question.asked),
        "idp": person.principal.issuer,
        "sub": person.principal.subject,
        "label": person.label,
        "csrf": question.csrf,
    }
    return keys.seal(Purpose.QUESTION, payload, now=now, lifetime=FLOW_LIFETIME)


def open_question(keys: KeyRing, text: str, *, now: float) -> Question:
    payload = keys.open(Purpose.QUESTION, text, now=now)

    def made(p: dict[str, Any]) -> Question:
        person = Person(Principal(p["idp"], p["sub"]), p["label"])
        return Question(p["id"], Asked(**p["asked"]), person, p["csrf"], p["iat"])

    return made_of(made, payload)


def seal_answer(keys: KeyRing, answer: Answer, *, now: float) -> str:
    payload = {"uri": answer.redirect_uri, "parameters": [list(pair) for pair in answer.parameters]}
    return keys.seal(Purpose.ANSWER, payload, now=now, lifetime=FLOW_LIFETIME)


def open_answer(keys: KeyRing, text: str, *, now: float) -> Answer:
    payload = keys.open(Purpose.ANSWER, text, now=now)
    return made_of(lambda p: Answer(p["uri"], tuple((name, value) for name, value in p["parameters"])), payload)


def seal_code(keys: KeyRing, code: Code, *, now: float) -> str:
    payload = {
        "id": code.id,
        "grant": code.grant_id,
        "client": code.client,
        "uri": code.redirect_uri,
        "challenge": code.challenge,
        "aud": code.resource,
    }
    return CODE_PREFIX + keys.seal(Purpose.CODE, payload, now=now, lifetime=code.expires_at - now)


def open_code(keys: KeyRing, text: str, *, now: float) -> Code:
    payload = keys.open(Purpose.CODE, _without(CODE_PREFIX, text), now=now)
    return made_of(
        lambda p: Code(p["id"], p["grant"], p["client"], p["uri"], p["challenge"], p["aud"], p["exp"]), payload
    )


def seal_access(keys: KeyRing, token: AccessToken, *, now: float) -> str:
    payload = {
        "grant": token.grant_id,
        "client": token.client,  # apart from the person: OAuth 2.1 7.4, a client cannot pose as a resource owner
        "idp": token.principal.issuer,
        "sub": token.principal.subject,
        "scope": token.scope,
        "aud": token.resource,
        "iss": token.issuer,
    }
    return ACCESS_PREFIX + keys.seal(Purpose.ACCESS, payload, now=now, lifetime=token.expires_at - now)


def open_access(keys: KeyRing, text: str, *, now: float) -> AccessToken:
    payload = keys.open(Purpose.ACCESS, _without(ACCESS_PREFIX, text), now=now)

    def made(p: dict[str, Any]) -> AccessToken:
        principal = Principal(p["idp"], p["sub"])
        return AccessToken(p["grant"], p["client"], principal, p["scope"], p["aud"], p["iss"], p["exp"])

    return made_of(made, payload)


def seal_refresh(keys: KeyRing, token: RefreshToken, *, now: float) -> str:
    payload = {"grant": token.grant_id, "gen": token.generation, "client": token.client, "aud": token.resource}
    return REFRESH_PREFIX + keys.seal(Purpose.REFRESH, payload, now=now, lifetime=token.expires_at - now)


def open_refresh(keys: KeyRing, text: str, *, now: float) -> RefreshToken:
    payload = keys.open(Purpose.REFRESH, _without(REFRESH_PREFIX, text), now=now)
    return made_of(lambda p: RefreshToken(p["grant"], p["gen"], p["client"], p["aud"], p["exp"]), payload)


def _without(prefix: str, text: str) -> str:
    if not text.startswith(prefix):
        raise Unsealable("not a token of ours for this purpose")
    return text.removeprefix(prefix)


def made_of(make: Callable[[dict[str, Any]], T], payload: dict[str, Any]) -> T:
    """A payload that opened is ours; one of another version of this program may still lack a field."""
    try:
        return make(payload)
    except (KeyError, TypeError, ValueError) as exc:
        raise Unsealable("sealed by another version of this program") from exc
