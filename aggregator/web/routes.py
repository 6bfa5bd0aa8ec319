"""Which endpoint stands at which path: a team's, with its authorization server, and those of one person.

Tables, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from ..config.model import Config
from ..protocol.oauth.site import site_of
from ..protocol.sealing import KeyRing
from ..store import Store
from .http import Route
from .limits import document_limit, login_limit, registration_limit
from .local.door import TOKEN_PATH, ThisMachine
from .local.pages import LocalPages
from .oauth.authority import Authority, IdentityProvider, LoginChecking
from .oauth.authorization import authorize, send_back
from .oauth.clients import ClientDocuments, clients_of
from .oauth.consent import answer_consent, show_consent
from .oauth.login import callback
from .oauth.metadata import metadata_routes
from .oauth.registration import MAX_BODY, register
from .oauth.revocations import Revocations
from .oauth.token_endpoint import revoke, token
from .pages import Pages
from .people.account_routes import account_routes, sign_in_routes
from .people.accounts import Accounts
from .people.connecting import callback_path, personal
from .people.landing import landing, misplaced
from .people.tools_page import CatalogOf, tools_routes


def oauth_routes(
    config: Config,
    keys: KeyRing,
    store: Store,
    identity_provider: IdentityProvider,
    login_checks: LoginChecking,
    revocations: Revocations,
    pages: Pages,
    client_documents: ClientDocuments,
    clock: Callable[[], float] = time.time,
    accounts: Accounts | None = None,
    catalog_of: CatalogOf | None = None,
) -> tuple[Route, ...]:
    """Every route of login, consent, tokens and metadata, the landing page and the style sheet.

    Paths are whole: below an issuer URL with a path they begin with it.
    """
    site = site_of(config.issuer_url)
    authority = Authority(
        config,
        site,
        keys,
        store,
        identity_provider,
        login_checks,
        revocations,
        clients_of(config, keys),
        client_documents,
        registration_limit(),
        login_limit(),
        document_limit(),
        pages,
        clock,
    )

    root = {"GET": partial(landing, authority), "POST": partial(misplaced, authority)}
    consent = {
        "GET": partial(show_consent, authority),
        "POST": partial(answer_consent, authority),
    }
    return (
        *metadata_routes(
            site,
            sorted({callback_path(upstream) for upstream in personal(authority)}),
            takes_documents=config.client_documents,
        ),
        Route(
            site.path + "/register",
            {"POST": partial(register, authority)},
            cors=True,
            body_limit=MAX_BODY,
        ),
        Route(site.path + "/token", {"POST": partial(token, authority)}, cors=True),
        Route(site.path + "/revoke", {"POST": partial(revoke, authority)}, cors=True),
        # OAuth 2.1 3.1: "MUST NOT support CORS" here; it is navigated to, never fetched.
        Route(site.path + "/authorize", {"GET": partial(authorize, authority)}, page=True),
        Route(site.path + "/authorize/return", {"POST": partial(send_back, authority)}, page=True),
        Route(site.path + "/callback", {"GET": partial(callback, authority)}, page=True),
        Route(site.path + "/consent", consent, page=True),
        Route(site.path + "/", root, page=True),
        *sign_in_routes(authority),
        *(() if accounts is None else account_routes(authority, accounts)),
        *(() if catalog_of is None else tools_routes(authority, catalog_of)),
        *pages.routes,
    )


def local_routes(
    config: Config,
    keys: KeyRing,
    store: Store,
    machine: ThisMachine,
    revocations: Revocations,
    pages: Pages,
    accounts: Accounts,
    catalog_of: CatalogOf,
    clock: Callable[[], float] = time.time,
) -> tuple[Route, ...]:
    """Every page of local mode. Nobody is issued anything here."""
    site = site_of(config.issuer_url)
    authority = Authority(
        config,
        site,
        keys,
        store,
        machine,
        machine,
        revocations,
        clients_of(config, keys),
        machine,
        registration_limit(),
        login_limit(),
        document_limit(),
        pages,
        clock,
    )
    own = LocalPages(authority, machine, site.url(config.listen.path))
    return (
        Route(site.path + "/", {"GET": own.landing, "POST": own.misplaced}, page=True),
        Route(site.path + "/callback", {"GET": partial(callback, authority)}, page=True),
        Route(site.path + TOKEN_PATH, {"GET": own.ask_token, "POST": own.take_token}, page=True),
        *sign_in_routes(authority),
        *account_routes(authority, accounts),
        *tools_routes(authority, catalog_of),
        *pages.routes,
    )
