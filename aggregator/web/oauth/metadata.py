"""The well-known documents, made once from the configuration and served as they are.

They are those of the authorization server that we are, of its resource, and of
the client that we are at upstreams' authorization servers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...protocol.brokering.registration import client_document
from ...protocol.oauth.metadata import (
    authorization_server_metadata,
    authorization_server_paths,
    protected_resource_metadata,
    protected_resource_paths,
)
from ...protocol.oauth.site import Site
from ...upstream.oauth.client import DOCUMENT_PATH, client_document_url
from ..http import Endpoint, Request, Response, Route, json_response

MAX_AGE = 300  # seconds; a changed issuerUrl is seen by clients after at most this


def metadata_routes(site: Site, callbacks: Sequence[str] = (), *, takes_documents: bool = True) -> tuple[Route, ...]:
    """One route for each place where somebody may look; none of them reads the request.

    `callbacks` are the paths to which upstreams' authorization servers send people back; `takes_documents` is whether
    clients may be described by metadata documents.
    """
    server = _document(authorization_server_metadata(site, takes_documents=takes_documents))
    resource = _document(protected_resource_metadata(site))
    url = client_document_url(site.issuer)
    client = _document(client_document(url, [site.url(path) for path in callbacks], site.issuer))
    return (
        Route(site.path + DOCUMENT_PATH, {"GET": client}),
        *(Route(path, {"GET": server}, cors=True) for path in authorization_server_paths(site)),
        *(Route(path, {"GET": resource}, cors=True) for path in protected_resource_paths(site)),
    )


def _document(content: Mapping[str, Any]) -> Endpoint:
    response = json_response(content, headers=(("cache-control", f"public, max-age={MAX_AGE}"),))

    async def document(request: Request) -> Response:
        return response

    return document
