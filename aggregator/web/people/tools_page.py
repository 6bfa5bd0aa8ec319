"""``/tools``: what a person may call here, as their MCP clients see it, to search and to read.

It must not know where a catalog comes from, and calls no tool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlencode

from ...protocol.catalog import Catalog
from ...protocol.principal import Principal
from ...protocol.tool_search import Found, Search, find_tools, parse_search
from ..http import Request, Response, Route
from ..oauth.authority import Authority
from ..oauth.browser_session import find_session
from .sign_in import begin_sign_in

PATH = "/tools"

# The catalog of one person, in bounded time; raises StoreUnavailable when it is not known what is theirs.
CatalogOf = Callable[[Principal], Awaitable[Catalog]]


def tools_routes(authority: Authority, catalog_of: CatalogOf) -> tuple[Route, ...]:
    return (Route(authority.site.path + PATH, {"GET": partial(show_tools, authority, catalog_of)}, page=True),)


async def show_tools(authority: Authority, catalog_of: CatalogOf, request: Request) -> Response:
    """One page of the tools that the person of this browser may call; whoever is not signed in, signs in first.

    Raises:
        StoreUnavailable: when it is not known who asks, or what is theirs.
    """
    session = await find_session(authority, request)
    if session is None:
        return await begin_sign_in(authority, request, PATH)
    search = parse_search(request.query_parameters())
    found = find_tools(await catalog_of(session.person.principal), search)
    titles = {upstream.name: upstream.display_name or upstream.name for upstream in authority.config.upstreams}
    return authority.pages.render(
        "tools.html",
        viewer=session,
        place=PATH,
        found=found,
        titles=titles,
        is_search=bool(search.words or search.upstream is not None),
        previous=_page_link(found, -1),
        following=_page_link(found, +1),
    )


def _page_link(found: Found, step: int) -> str | None:
    """The query of the page before or after, None if there is none."""
    search: Search = found.search
    page = search.page + step
    if not 1 <= page <= found.pages:
        return None
    asked = {"q": search.words} if search.words else {}
    if search.upstream is not None:
        asked["upstream"] = search.upstream
    return urlencode({**asked, "page": str(page)})
