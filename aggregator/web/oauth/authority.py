"""What every endpoint of the authorization server works with, and what it expects of the identity provider.

This file must not know any endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ...config.model import Config
from ...protocol.oauth.clients import Clients
from ...protocol.oauth.site import Site
from ...protocol.principal import Login
from ...protocol.sealing import KeyRing
from ...store import Grant, Store
from ..address_limit import AddressLimit
from ..pages import Pages
from .clients import ClientDocuments
from .revocations import Revocations


class IdentityProvider(Protocol):
    """Where people log in: the two halves of one login."""

    async def authorization_url(self, *, state: str, nonce: str, code_verifier: str) -> str:
        """Where to send the browser.

        Raises:
            IdentityProviderUnavailable: when there is no knowing where.
        """
        ...

    async def finish(self, *, code: str, nonce: str, code_verifier: str, issuer: str | None) -> Login:
        """Who logged in; `issuer` is the answer's ``iss``.

        Raises:
            LoginRefused: when the provider, or our rule of who may log in, says no.
            IdentityProviderUnavailable: when the provider cannot be asked.
        """
        ...


class LoginChecking(Protocol):
    """Asking the identity provider again about people whose clients refresh."""

    async def may_go_on(self, grant: Grant) -> bool:
        """False if the provider, or our rule of who may log in, has just ended the grant. Silence of theirs is True.

        Raises:
            StoreUnavailable: when it is not known whether to ask.
        """
        ...


@dataclass(frozen=True, slots=True)
class Authority:
    """The authorization server's parts. `clock` is wall time in seconds."""

    config: Config
    site: Site
    keys: KeyRing
    store: Store
    identity_provider: IdentityProvider
    login_checks: LoginChecking
    revocations: Revocations
    clients: Clients
    client_documents: ClientDocuments
    registrations: AddressLimit
    logins: AddressLimit
    unread_documents: AddressLimit
    pages: Pages
    clock: Callable[[], float]
