"""Values that the tests of this folder share."""

from __future__ import annotations

from typing import Any

from aggregator.protocol.oauth.clients import Clients
from aggregator.protocol.oauth.pkce import challenge_of
from aggregator.protocol.oauth.registration import Client, seal_client
from aggregator.protocol.oauth.site import site_of
from aggregator.protocol.sealing import KeyRing

NOW = 1_790_000_000.0
SITE = site_of("https://mcp.example.com")
KEYS = KeyRing([bytes(range(32))])
CLIENTS = Clients(KEYS)
OTHER_KEYS = KeyRing([bytes(range(1, 33))])
VERIFIER = "v" * 43
CHALLENGE = challenge_of(VERIFIER)
CALLBACK = "https://client.example/cb"
LOOPBACK = "http://127.0.0.1/cb"


def client(*redirect_uris: str, **changes: Any) -> Client:
    return Client(**{"id": "reg-1", "name": "Tester", "redirect_uris": redirect_uris or (CALLBACK,), **changes})


def client_id(registered: Client) -> str:
    return seal_client(KEYS, registered, now=NOW)
