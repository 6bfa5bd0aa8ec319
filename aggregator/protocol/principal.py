"""Who a person is. This file knows nothing of tokens, cookies or stores."""

from __future__ import annotations

import base64
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """A person, as the identity provider names them: never an e-mail address by default (OIDC Core 5.7).


    issuer: str
    subject: str

    @property
    def key(self) -> str:
        """One text that names the person in rows and cache keys; injective, since base64url has no ``|``."""
        return base64.urlsafe_b64encode(self.issuer.encode()).decode().rstrip("=") + "|" + self.subject


@dataclass(frozen=True, slots=True)
class Person:
    """A principal together with what a page may show of it."""

    principal: Principal
    label: str
