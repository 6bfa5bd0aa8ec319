"""Which page of people's own accounts stands at which path. A table, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ..http import Endpoint, Request, Response, Route, see_other
from ..oauth.authority import Authority
from .accounts import Accounts
from .clients_page import revoke_client, show_clients
from .connect_callback import connect_callback
from .connecting import begin_connect, callback_path, personal, show_connect, show_connected, unknown_upstream
from .connections_page import disconnect, reconnect_all, show_connections
from .sign_in import HOME, sign_in, sign_out, sign_out_everywhere

# Where our predecessor's pages were. Their parameters are dropped: one of them was an access token.
_MOVED = {"/login": "/sign-in", "/dashboard": HOME}


def sign_in_routes(authority: Authority) -> tuple[Route, ...]:
    """Signing in and out, and what can be seen and ended without any upstream."""

    async def moved(to: str, request: Request) -> Response:
        return see_other(authority.site.url(to))

    def page(path: str, methods: Mapping[str, Endpoint]) -> Route:
        return Route(authority.site.path + path, methods, page=True)

    return (
        page("/sign-in", {"GET": partial(sign_in, authority)}),
        page("/sign-out", {"POST": partial(sign_out, authority)}),
        page("/sign-out-everywhere", {"POST": partial(sign_out_everywhere, authority)}),
        page("/clients", {"GET": partial(show_clients, authority)}),
        page("/clients/revoke", {"POST": partial(revoke_client, authority)}),
        *(page(path, {"GET": partial(moved, to)}) for path, to in _MOVED.items()),
    )


def account_routes(authority: Authority, accounts: Accounts) -> tuple[Route, ...]:
    """Connecting, its callbacks, and the page of all connections."""

    def page(path: str, methods: Mapping[str, Endpoint], *, below: bool = False) -> Route:
        return Route(authority.site.path + path, methods, page=True, below=below)

    own = personal(authority)
    return (
        page("/connections", {"GET": partial(show_connections, authority, accounts)}),
        page("/connections/disconnect", {"POST": partial(disconnect, authority, accounts)}),
        page("/connections/reconnect", {"POST": partial(reconnect_all, authority, accounts)}),
        *(
            page(
                f"/connect/{upstream.name}",
                {
                    "GET": partial(show_connect, authority, upstream),
                    "POST": partial(begin_connect, authority, accounts, upstream),
                },
            )
            for upstream in own
        ),
        *(
            page(f"/connected/{upstream.name}", {"GET": partial(show_connected, authority, upstream)})
            for upstream in own
        ),
        page("/connect", {"GET": partial(unknown_upstream, authority)}, below=True),
        *(
            page(path, {"GET": partial(connect_callback, authority, accounts, path)})
            for path in sorted({callback_path(upstream) for upstream in own})
        ),
    )
