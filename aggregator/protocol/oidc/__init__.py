"""OpenID Connect from the relying party's side: how a person logs in, as pure decisions.

Reading order: `discovery` (who the provider is), `exchange` (the two requests
and what their answers mean), `refresh` (the third, later), `keys` and `id_token` (is this token the
provider's, and for us), `userinfo` (what the token does not tell), `person` (who
that is, and whether they may enter).
This folder knows nothing of MCP, of our own tokens, nor of how bytes travel:
`now` is an argument and every document is bytes.

Two errors leave it: `IdentityProviderUnavailable` when the provider's side or
its configuration is wrong, `LoginRefused` when this login must not go on.
"""

from __future__ import annotations

from .discovery import ProviderMetadata, discovery_url, parse_discovery
from .exchange import (
    ProviderTokens,
    authorization_request,
    check_response_issuer,
    process_token_response,
    token_request,
)
from .id_token import is_signed_by, validate_id_token
from .keys import VerificationKey, parse_jwks
from .person import person_from_claims
from .refresh import Refreshed, Withdrawn, process_refresh_response, refresh_request
from .userinfo import missing_claims, process_userinfo_response, userinfo_request

__all__ = [
    "ProviderMetadata",
    "ProviderTokens",
    "Refreshed",
    "VerificationKey",
    "Withdrawn",
    "authorization_request",
    "check_response_issuer",
    "discovery_url",
    "is_signed_by",
    "missing_claims",
    "parse_discovery",
    "parse_jwks",
    "person_from_claims",
    "process_refresh_response",
    "process_token_response",
    "process_userinfo_response",
    "refresh_request",
    "token_request",
    "userinfo_request",
    "validate_id_token",
]
