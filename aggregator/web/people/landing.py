"""What stands at the root: a page for people, the same in JSON for programs, and the way on for lost MCP clients.

It must not know any upstream: whoever is not signed in learns the URL of the
MCP endpoint here, and nothing else.
"""

from __future__ import annotations

from ...errors import StoreUnavailable
from ..http import Request, Response, json_response, no_store
from ..oauth.authority import Authority
from ..oauth.browser_session import find_session

_INVALID_REQUEST = -32600  # JSON-RPC 2.0, 5.1


async def landing(authority: Authority, request: Request) -> Response:
    """The landing page, or a small object where the client asks for JSON and not for a page."""
    accepted = request.header("accept") or ""
    if "application/json" in accepted and "text/html" not in accepted:
        site = authority.site
        about = {"name": "mcp-aggregator", "mcp": site.resource, "protectedResourceMetadata": site.resource_metadata}
        return no_store(json_response(about, headers=(("vary", "accept"),)))
    try:
        viewer = await find_session(authority, request)
    except StoreUnavailable:
        viewer = None  # the URL of the endpoint can be told without knowing who asks
    return authority.pages.landing(viewer).with_headers(("vary", "accept"))


async def misplaced(authority: Authority, request: Request) -> Response:
    """A POST to the root is an MCP client whose URL lacks its last part; it reads JSON-RPC."""
    error = {"code": _INVALID_REQUEST, "message": f"The MCP endpoint is {authority.site.resource}; use that URL."}
    return no_store(json_response({"jsonrpc": "2.0", "id": None, "error": error}, status=404))
