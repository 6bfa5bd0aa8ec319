"""The well-known documents, made once from the configuration and served as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..protocol.oauth.metadata import (
    authorization_server_metadata,
    authorization_server_paths,
    protected_resource_metadata,
    protected_resource_paths,
)
from ..protocol.oauth.site import Site
from .http import Endpoint, Request, Response, Route, json_response

MAX_AGE = 300  # seconds; a changed issuerUrl is seen by clients after at most this


def metadata_routes(site: Site) -> tuple[Route, ...]:
    """One route for each place where a client may look; none of them reads the request."""
    server = _document(authorization_server_metadata(site))
    resource = _document(protected_resource_metadata(site))
    return (
        *(Route(path, {"GET": server}, cors=True) for path in authorization_server_paths(site)),
        *(Route(path, {"GET": resource}, cors=True) for path in protected_resource_paths(site)),
    )


def _document(content: Mapping[str, Any]) -> Endpoint:
    response = json_response(content, headers=(("cache-control", f"public, max-age={MAX_AGE}"),))

    async def document(request: Request) -> Response:
        return response

    return document
