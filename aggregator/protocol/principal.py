"""Who a person is. This file knows nothing of tokens, cookies or stores."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Principal:
    """A person as the identity provider names them: issuer and subject (OIDC Core 5.7), never an e-mail by default."""

    issuer: str
    subject: str

    @property
    def key(self) -> str:
        """One text that names the person in rows and cache keys; injective, since base64url has no ``|``."""
        return base64.urlsafe_b64encode(self.issuer.encode()).decode().rstrip("=") + "|" + self.subject

    def __str__(self) -> str:
        """As logs name the person: as rows do, but for the one person of local mode."""
        return self.subject if self == LOCAL else self.key


def principal_of(issuer: str, subject: str) -> Principal:
    """The principal for an issuer as configured or discovered: the two may differ by one trailing slash, people not."""
    return Principal(issuer.removesuffix("/"), subject)


# The one person of local mode. No identity provider has such an issuer: theirs are URLs.
LOCAL = Principal("urn:mcp-aggregator:local", "you")


@dataclass(frozen=True, slots=True)
class Person:
    """A principal, and the label by which a page names them to themselves (an e-mail, a user name)."""

    principal: Principal
    label: str


@dataclass(frozen=True, slots=True)
class Login:
    """Who logged in, and what the identity provider gave to ask it again: a secret, None where it gave nothing."""

    person: Person
    refresh_token: str | None = field(default=None, repr=False)
