"""The pages of local mode that no team has: the landing page of one person, and where a browser shows the token.

This file must not know what happens to a call.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import Refusal, Unsealable
from ...protocol.oauth.browser import open_sign_in
from ..cookies import flow_cookies
from ..http import Request, Response, json_response, no_store, see_other
from ..oauth.answers import require_same_origin
from ..oauth.authority import Authority
from .door import ThisMachine, is_token


@dataclass(frozen=True, slots=True)
class LocalPages:
    """`mcp_url` is the MCP endpoint's."""

    authority: Authority
    machine: ThisMachine
    mcp_url: str

    async def landing(self, request: Request) -> Response:
        """The page at the root, or a small object where the client asks for JSON and not for a page."""
        accepted = request.header("accept") or ""
        vary = ("vary", "accept")
        if "application/json" in accepted and "text/html" not in accepted:
            return no_store(json_response({"name": "mcp-aggregator", "mcp": self.mcp_url}, headers=(vary,)))
        return self.authority.pages.local_landing(self.mcp_url, self.machine.token is not None).with_headers(vary)

    async def misplaced(self, request: Request) -> Response:
        """A POST to the root is an MCP client whose URL lacks its last part; it reads JSON-RPC."""
        error = {"code": -32600, "message": f"The MCP endpoint is {self.mcp_url}; use that URL."}
        return no_store(json_response({"jsonrpc": "2.0", "id": None, "error": error}, status=404))

    async def ask_token(self, request: Request) -> Response:
        return self._form(request.query_parameters().get("state", ""))

    async def take_token(self, request: Request) -> Response:
        """
        Raises:
            Refusal: 403 for a form of another site, or of another browser than the one that wants to sign in.
        """
        require_same_origin(self.authority, request)
        form = request.form()
        state = form.get("state", "")
        try:
            begun = open_sign_in(
                self.authority.keys,
                flow_cookies(self.authority.site, request).get(state, ""),
                now=self.authority.clock(),
            )
        except Unsealable:
            told = "This sign-in was started in another browser, or is older than ten minutes."
            raise Refusal(403, "access_denied", told) from None
        token = self.machine.token
        if token is None or not is_token(token, form.get("token", "").encode()):
            return self._form(state, status=403)
        return see_other(self.machine.answer_url(begun.id, begun.nonce), ("referrer-policy", "no-referrer"))

    def _form(self, state: str, *, status: int = 200) -> Response:
        return self.authority.pages.render("listen_token.html", status=status, viewer=None, state=state)
