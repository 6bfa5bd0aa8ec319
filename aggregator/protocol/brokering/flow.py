"""A person's way to an upstream's authorization server and back, sealed into a cookie of their browser.

`state` is the flow's id and worth nothing without that cookie and without the
session of the same person: who finishes is who began (COSF, reference 3.6).
This file owns what is inside; it must not know cookies or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..oauth.sealed import FLOW_LIFETIME, made_of
from ..principal import Principal
from ..sealing import KeyRing, Purpose
from . import Beginning


@dataclass(frozen=True, slots=True)
class ConnectFlow:
    """`answer` holds the authorization server's answer while the person signs in again; empty before.

    `then` names the upstreams to connect afterwards, where the person asked for several. `heard` says that an answer
    came which was refused: the flow goes on, since anybody may have sent it, and the authorization server knows us.
    """

    id: str
    principal: Principal
    beginning: Beginning
    then: tuple[str, ...] = ()
    answer: Mapping[str, str] = field(default_factory=dict, repr=False)
    started_at: float = 0.0
    heard: bool = False


def seal_connect(keys: KeyRing, flow: ConnectFlow, *, now: float) -> str:
    """The flow until ten minutes after `now`. The URL to which the browser goes is left out: it is used at once."""
    beginning = asdict(flow.beginning)
    del beginning["url"]
    payload = {
        "id": flow.id,
        "idp": flow.principal.issuer,
        "sub": flow.principal.subject,
        "beginning": beginning,
        "then": list(flow.then),
        "answer": dict(flow.answer),
        "heard": flow.heard,
    }
    return keys.seal(Purpose.CONNECT, payload, now=now, lifetime=FLOW_LIFETIME)


def open_connect(keys: KeyRing, text: str, *, now: float) -> ConnectFlow:
    """Raises:
    Unsealable: for everything that is not a flow of ours, or no longer.
    """
    payload = keys.open(Purpose.CONNECT, text, now=now)

    def made(p: dict[str, Any]) -> ConnectFlow:
        principal, beginning = Principal(p["idp"], p["sub"]), Beginning(url="", **p["beginning"])
        return ConnectFlow(p["id"], principal, beginning, tuple(p["then"]), p["answer"], p["iat"], p["heard"])

    return made_of(made, payload)
