"""The clients of a deployment: those of its configuration as values, and whoever asks to log in.

This file must not know what a client asks for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

from ...config.model import Config, KnownClient
from ...errors import Refusal, Unfetchable
from ...protocol.learned_url import LOOPBACK_NAMES, LearnedUrl
from ...protocol.oauth.authorization import find_client
from ...protocol.oauth.clients import Clients, DocumentNeeded
from ...protocol.oauth.registration import Client, hash_secret
from ...protocol.sealing import KeyRing

log = logging.getLogger(__name__)


class ClientDocuments(Protocol):
    """Where metadata documents of clients come from."""

    def knows(self, url: LearnedUrl) -> bool:
        """Whether the document at `url` was good when last read, or is being read: asking now costs nothing."""
        ...

    async def find(self, url: LearnedUrl) -> Client:
        """The client that the document at `url` describes.

        Raises:
            Unfetchable: with the true cause, which is not for the one who asks.
            Refusal: with words that are.
        """
        ...


def clients_of(config: Config, keys: KeyRing) -> Clients:
    configured = {known.client_id: _client(known) for known in config.clients}
    return Clients(keys, configured, frozenset(config.client_schemes), config.client_documents)


def is_on_loopback(config: Config) -> bool:
    """Draft CIMD 8.6: only a server that itself is on a loopback address may fetch documents from one."""
    host = urlsplit(config.issuer_url).hostname or ""
    return (f"[{host}]" if ":" in host else host) in LOOPBACK_NAMES


async def resolve_client(
    parameters: Mapping[str, str],
    clients: Clients,
    documents: ClientDocuments,
    admit_unread: Callable[[], None],
    *,
    now: float,
    request_id: str,
) -> Client:
    """The client that sends an authorization request; its metadata document is fetched if it has one.

    `admit_unread` refuses whoever names too many documents that we do not know yet.

    Raises:
        Refusal: 400 for nobody, for a document that does not suit and for one that cannot be had; 429.
    """
    found = find_client(parameters, clients, now=now)
    if not isinstance(found, DocumentNeeded):
        return found
    if not documents.knows(found.url):
        admit_unread()
    try:
        return await documents.find(found.url)
    except Unfetchable as exc:
        log.warning(
            "request %s: a client's metadata document is not usable: %s. If this server cannot fetch any, set "
            "clientDocuments to false, and clients register themselves instead",
            request_id,
            exc,
        )
        # The same words whatever the cause: else this page would tell strangers what answers where, seen from here.
        raise Refusal(
            400,
            "invalid_client_metadata",
            "The client id is a URL, and there is no metadata document for it there that this server could use.",
        ) from exc


def _client(known: KnownClient) -> Client:
    secret = known.client_secret
    return Client(
        id=known.client_id,
        name=known.name,
        redirect_uris=known.redirect_uris,
        auth_method="none" if secret is None else "client_secret_basic",
        secret_hash=None if secret is None else hash_secret(secret.reveal()),
        source="configuration",
    )
