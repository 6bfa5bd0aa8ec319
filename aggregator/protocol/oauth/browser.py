"""What a person's own browser holds, sealed in cookies: who is signed in, and a sign-in under way.

No MCP client takes part in either. This file owns what is inside and how long it
lives; it must not know cookies or pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..principal import Person, Principal
from ..sealing import KeyRing, Purpose
from .sealed import FLOW_LIFETIME, made_of

# A working day. It does not slide: whoever took over a browser is out by the evening, and a page seldom visited would
# gain nothing by it, since a sign-in is one redirect for whoever is still signed in at the identity provider.
SESSION_LIFETIME = 8 * 3600.0


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A person signed in in one browser. Forms of its pages carry `form_secret`; nobody else can know it."""

    id: str
    person: Person
    form_secret: str = field(repr=False)
    signed_in_at: float = 0.0


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in that has begun, for one of our own pages: `to` is its path below the issuer's.

    `resume` names a connect flow whose answer waits in this browser; empty for none.
    """

    id: str
    to: str
    nonce: str
    verifier: str = field(repr=False)
    resume: str = ""
    started_at: float = 0.0


def seal_session(keys: KeyRing, session: BrowserSession, *, now: float, lifetime: float = SESSION_LIFETIME) -> str:
    """The session as of `now`, which becomes its `signed_in_at`."""
    payload = {
        "id": session.id,
        "idp": session.person.principal.issuer,
        "sub": session.person.principal.subject,
        "label": session.person.label,
        "form": session.form_secret,
    }
    return keys.seal(Purpose.BROWSER, payload, now=now, lifetime=min(lifetime, SESSION_LIFETIME))


def open_session(keys: KeyRing, text: str, *, now: float) -> BrowserSession:
    """Raises:
    Unsealable: for everything that is not a session of ours, or no longer.
    """
    payload = keys.open(Purpose.BROWSER, text, now=now)

    def made(p: dict[str, Any]) -> BrowserSession:
        return BrowserSession(p["id"], Person(Principal(p["idp"], p["sub"]), p["label"]), p["form"], p["iat"])

    return made_of(made, payload)


def seal_sign_in(keys: KeyRing, sign_in: SignIn, *, now: float) -> str:
    payload = {
        "id": sign_in.id,
        "to": sign_in.to,
        "nonce": sign_in.nonce,
        "verifier": sign_in.verifier,
        "resume": sign_in.resume,
    }
    return keys.seal(Purpose.SIGN_IN, payload, now=now, lifetime=FLOW_LIFETIME)


def open_sign_in(keys: KeyRing, text: str, *, now: float) -> SignIn:
    """Raises:
    Unsealable: for everything that is not a sign-in of ours, or no longer.
    """
    payload = keys.open(Purpose.SIGN_IN, text, now=now)
    return made_of(lambda p: SignIn(p["id"], p["to"], p["nonce"], p["verifier"], p["resume"], p["iat"]), payload)
