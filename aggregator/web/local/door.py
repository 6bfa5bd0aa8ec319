"""Local mode's front door: one person, who is known by being on this machine, or by the token of ``listen.token``.

`Gate` has looked at Host and Origin before, so that no page of a foreign site
comes this far. Our own pages are those of a team of one: `ThisMachine` stands
where the identity provider does, and there is nobody else to ask. This file
must not know any page.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

import trio

from ...config.model import Listen, Secret
from ...errors import LoginRefused, Refusal, Unfetchable
from ...protocol.learned_url import LearnedUrl
from ...protocol.oauth.registration import Client
from ...protocol.oauth.site import Site
from ...protocol.principal import LOCAL, Login, Person, Principal
from ...store import Grant

LABEL = "the user of this machine"  # what pages call the person
TOKEN_PATH = "/listen-token"  # noqa: S105  where a browser shows the token

_CHALLENGE = (("www-authenticate", 'Bearer realm="mcp-aggregator"'),)


@dataclass(frozen=True, slots=True)
class Local:
    """The sender of every request."""

    principal: Principal = LOCAL
    grant_id: str = ""


class LocalAuthentication:
    """Lets in whoever shows the token, or everybody if there is none."""

    def __init__(self, listen: Listen) -> None:
        self._token = listen.token
        self._local = Local()

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Local:
        """
        Raises:
            Refusal: 401 for no token or another one.
        """
        if self._token is None:
            return self._local
        shown = [value for name, value in headers if name == b"authorization"]
        if len(shown) == 1:
            scheme, _, text = shown[0].strip(b" \t").partition(b" ")
            if scheme.lower() == b"bearer" and is_token(self._token, text.strip(b" ")):
                return self._local
        told = "This server wants the token of its configuration, listen.token: send Authorization: Bearer <token>."
        raise Refusal(401, "invalid_token", told, headers=_CHALLENGE)

    async def wait_withdrawn(self, grant_id: str) -> None:
        await trio.sleep_forever()


def is_token(token: Secret, shown: bytes) -> bool:
    """Whether `shown` is the token, in a time that tells nothing."""
    return hmac.compare_digest(token.reveal().encode(), shown)


class ThisMachine:
    """Stands where a team's identity provider does, for our own pages. No client logs in here."""

    def __init__(self, site: Site, listen: Listen) -> None:
        self._site = site
        self.token = listen.token
        self._key = secrets.token_bytes(32)

    def answer_url(self, state: str, nonce: str) -> str:
        """Where a browser goes whose person may come in."""
        return self._site.url("/callback?" + urlencode({"code": self._code(nonce), "state": state}))

    async def authorization_url(self, *, state: str, nonce: str, code_verifier: str) -> str:
        if self.token is None:
            return self.answer_url(state, nonce)
        return self._site.url(f"{TOKEN_PATH}?{urlencode({'state': state})}")

    async def finish(self, *, code: str, nonce: str, code_verifier: str, issuer: str | None) -> Login:
        """
        Raises:
            LoginRefused: for a code that is not of this browser's sign-in.
        """
        if not hmac.compare_digest(code.encode(), self._code(nonce).encode()):
            raise LoginRefused("the sign-in did not begin here")
        return Login(Person(LOCAL, LABEL), None)

    async def may_go_on(self, grant: Grant) -> bool:
        return True

    def knows(self, url: LearnedUrl) -> bool:
        return False

    async def find(self, url: LearnedUrl) -> Client:
        raise Unfetchable("no client logs in here")

    def _code(self, nonce: str) -> str:
        return hmac.digest(self._key, nonce.encode(), "sha256").hex()
