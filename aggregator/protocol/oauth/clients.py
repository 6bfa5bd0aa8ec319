"""Who a client id stands for: a client of the configuration, a metadata document, or a registration that we sealed.

In this order. This file must not know how a document is had, nor what is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...errors import Refusal, Unsealable
from ..learned_url import LearnedUrl
from ..sealing import KeyRing
from .client_document import SCHEME, parse_client_url, public_client
from .redirects import parse_redirect_uri
from .registration import Client, open_client


@dataclass(frozen=True, slots=True)
class DocumentNeeded:
    """Only the document at `url` can tell."""

    url: LearnedUrl


@dataclass(frozen=True, slots=True)
class Clients:
    """What a deployment knows of clients without asking anybody.

    `configured` are the operator's, by client id; `schemes` the private-use schemes that all others may redirect to.
    `takes_documents` is whether those not configured may be described by a metadata document.
    """

    keys: KeyRing
    configured: Mapping[str, Client] = field(default_factory=dict)
    schemes: frozenset[str] = frozenset()
    takes_documents: bool = True

    def identify(self, client_id: str, *, now: float) -> Client | DocumentNeeded:
        """The client, with the redirect URIs that may be used now.

        Raises:
            Unsealable: for an id that stands for nobody.
        """
        found = self._identify(client_id, now=now)
        if isinstance(found, DocumentNeeded) and not self.takes_documents:
            raise Unsealable("this server reads no metadata documents; log in again, so that it registers instead")
        return found

    def _identify(self, client_id: str, *, now: float) -> Client | DocumentNeeded:
        if (client := self.configured.get(client_id)) is not None:
            return client
        # 7.1: the ids that we issue never begin so.
        if client_id.startswith(SCHEME):
            return DocumentNeeded(parse_client_url(client_id))
        client = open_client(self.keys, client_id, now=now)
        # The operator may have shortened the list of schemes since.
        return replace(client, redirect_uris=tuple(uri for uri in client.redirect_uris if self._is_usable(uri)))

    def identify_by_id(self, client_id: str, *, now: float) -> Client:
        """The client where only identity and secret count; never needs a document (see `public_client`), and is good
        for what was allowed while documents were read.

        Raises:
            Unsealable: for an id that stands for nobody.
        """
        found = self._identify(client_id, now=now)
        return public_client(found.url) if isinstance(found, DocumentNeeded) else found

    def _is_usable(self, uri: str) -> bool:
        try:
            parse_redirect_uri(uri, self.schemes)
        except Refusal:
            return False
        return True
