"""The authorization request (OAuth 2.1 4.1.1): what a client asks for, or how it is told no.

Three outcomes: a `Refusal` stays on our own page, because the redirect URI is
not proven to be the client's (4.1.2.1: "MUST NOT automatically redirect"); an
`Answer` goes back to the client; `Asked` goes on to the login. This file must
not know cookies, the identity provider or the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import Refusal, Unsealable
from .client_document import SCHEME
from .clients import Clients, DocumentNeeded
from .pkce import is_challenge
from .redirects import allowed_redirect, with_parameters
from .registration import Client, Source
from .site import SCOPE, Site
from .words import plain

MAX_STATE = 2048  # bytes; it rests in a cookie of 4 KiB beside the rest of the request


@dataclass(frozen=True, slots=True)
class Asked:
    """A valid request. `client` is the client's `id`, not the client id; `state` is None when none was sent."""

    client: str
    client_name: str
    redirect_uri: str
    state: str | None
    challenge: str
    scope: str
    resource: str
    client_source: Source = "registration"


@dataclass(frozen=True, slots=True)
class Answer:
    """An authorization response on its way to a client. Every one names its issuer (RFC 9207 2)."""

    redirect_uri: str
    parameters: tuple[tuple[str, str], ...]

    @property
    def location(self) -> str:
        return with_parameters(self.redirect_uri, self.parameters)


def granted(asked: Asked, code: str, site: Site) -> Answer:
    return Answer(asked.redirect_uri, (("code", code), *_state(asked.state), ("iss", site.issuer)))


def denied(asked: Asked, error: str, description: str, site: Site) -> Answer:
    return _error(asked.redirect_uri, asked.state, error, description, site)


def find_client(parameters: Mapping[str, str], clients: Clients, *, now: float) -> Client | DocumentNeeded:
    """Who asks, or the document that says so.

    Raises:
        Refusal: 400 for a request without a client id, or with one that stands for nobody.
    """
    client_id = parameters.get("client_id")
    if client_id is None:
        raise Refusal(400, "invalid_request", "The request has no client_id.")
    try:
        return clients.identify(client_id, now=now)
    except Unsealable as exc:
        if client_id.startswith(SCHEME):
            raise Refusal(400, "invalid_client_metadata", f"The client id cannot be used: {exc}.") from None
        raise Refusal(
            400,
            "invalid_client",
            "This server does not know the client. It may have been registered with another server, or before the "
            "server's secret was changed.",
        ) from None


def decide_authorization(parameters: Mapping[str, str], client: Client, *, site: Site) -> Asked | Answer:
    """Check an authorization request of `client`; unknown parameters are ignored (OAuth 2.1 3.1).

    Raises:
        Refusal: 400 when the redirect URI is not proven, or the answer could not carry the state.
    """
    redirect_uri = _redirect_uri(parameters, client)
    state = parameters.get("state")
    if state is not None and len(state.encode()) > MAX_STATE:
        raise Refusal(
            400, "invalid_request", f"The state has {len(state.encode())} bytes; a client may send up to {MAX_STATE}."
        )
    problem = _problem(parameters, site)
    if problem is not None:
        return _error(redirect_uri, state, *problem, site)
    return Asked(
        client=client.id,
        client_name=client.name,
        redirect_uri=redirect_uri,
        state=state,
        challenge=parameters["code_challenge"],
        scope=SCOPE,  # OAuth 2.1 1.4.1: the server may ignore the scope requested, and says what it granted
        resource=site.resource,
        client_source=client.source,
    )


def _redirect_uri(parameters: Mapping[str, str], client: Client) -> str:
    requested = parameters.get("redirect_uri")
    if requested is None:
        # OAuth 2.1 4.1.1: "OPTIONAL if only one redirect URI is registered for this client."
        if len(client.redirect_uris) == 1:
            return client.redirect_uris[0]
        registered = "several" if client.redirect_uris else "none that this server takes"
        raise Refusal(
            400, "invalid_request", f"The request has no redirect_uri, and the client registered {registered}."
        )
    if allowed_redirect(client.redirect_uris, requested) is None:
        raise Refusal(
            400, "invalid_request", f"The redirect URI '{plain(requested)}' is not one that the client registered."
        )
    return requested


def _problem(parameters: Mapping[str, str], site: Site) -> tuple[str, str] | None:
    """The first thing wrong with a request whose redirect URI is proven: error code and description."""
    response_type = parameters.get("response_type")
    if response_type is None:
        return "invalid_request", "response_type is missing; send response_type=code."
    if response_type != "code":
        return "unsupported_response_type", f"response_type is '{plain(response_type)}'; only code is supported."
    if parameters.get("response_mode", "query") != "query":
        return "invalid_request", "response_mode is not supported; the answer comes in the query."
    challenge = parameters.get("code_challenge")
    if challenge is None:
        return "invalid_request", "code_challenge is missing; PKCE with S256 is required."
    # RFC 7636 4.3: code_challenge_method "defaults to plain if not present", and plain is not offered.
    if parameters.get("code_challenge_method") != "S256":
        return "invalid_request", "code_challenge_method must be S256."
    if not is_challenge(challenge):
        return "invalid_request", "code_challenge must be 43 to 128 unreserved characters."
    return resource_problem(parameters.get("resource"), site.resource)


def resource_problem(requested: str | None, ours: str) -> tuple[str, str] | None:
    """RFC 8707 2: absent means our one resource; anything else must be it, character for character."""
    if requested is None or requested == ours:
        return None
    return "invalid_target", f"The resource '{plain(requested)}' is not served here; use {plain(ours, 200)}."


def _error(redirect_uri: str, state: str | None, error: str, description: str, site: Site) -> Answer:
    # OAuth 2.1 4.1.2.1 limits the characters of both.
    words = (("error", error), ("error_description", plain(description, 400)))
    return Answer(redirect_uri, (*words, *_state(state), ("iss", site.issuer)))


def _state(state: str | None) -> tuple[tuple[str, str], ...]:
    """OAuth 2.1 4.1.2: state is "REQUIRED if the state parameter was present in the client authorization request"."""
    return () if state is None else (("state", state),)
