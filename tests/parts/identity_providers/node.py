"""The certified npm ``oidc-provider`` in the variants that providers of this world have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..servers import BASIC, CLIENT_SECRET, open_oidc_provider
from .provider import Provider


@asynccontextmanager
async def open_variant(
    redirect_uri: str, *, path: str = "", algorithm: str | None = None, lean: bool = False
) -> AsyncIterator[Provider]:
    """`path` below which the issuer lives; `algorithm` of ID tokens; `lean`: claims of scopes in userinfo only."""
    async with open_oidc_provider(redirect_uri, path=path, lean_id_token=lean) as issuer:
        yield Provider(issuer, BASIC if algorithm is None else f"client-{algorithm}", CLIENT_SECRET)
