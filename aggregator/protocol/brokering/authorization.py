"""Sending a person to an authorization server, and whether an answer comes from there (RFC 6749, 7636, 8707, 9207).

This file must not know cookies, people or stores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from urllib.parse import quote, urlencode

from ...errors import Refusal
from ..oauth.pkce import challenge_of
from . import Beginning
from .challenge import split_scope
from .server import S256, ServerMetadata

OFFLINE = "offline_access"  # OpenID Connect Core 11


def scope_to_ask(
    server: ServerMetadata,
    *,
    configured: Iterable[str] | None,
    challenged: str | None,
    of_resource: Iterable[str],
    wanted: str | None,
    allowed: Collection[str] = (),
) -> str | None:
    """What to ask for; None leaves it to the server.

    MCP, "Scope Selection Strategy": the challenge's, else all that the resource lists, else none; what the operator
    configured comes before both. `wanted` is what an earlier refusal showed to be needed, together with what was
    granted before, and is always part of it ("Step-Up Authorization Flow"). ``offline_access`` is added where the
    server lists it (SEP-2207), since most give no refresh token without it; alone
    it would take the place of the scopes that a server grants to who names none.

    `allowed` are those among which the upstream may choose; if none of what it names is one of them, it may name any.
    """
    if configured is not None:
        scopes = list(configured)
    elif challenged or wanted:
        scopes = list(split_scope(challenged or ""))
    else:
        scopes = list(of_resource)
    scopes += split_scope(wanted or "")
    if configured is None:
        scopes = allowed_of(scopes, allowed)
    if scopes and OFFLINE in server.scopes and configured is None:
        scopes.append(OFFLINE)
    return " ".join(dict.fromkeys(scopes)) or None


def allowed_of(scopes: Iterable[str], allowed: Collection[str]) -> list[str]:
    """Those of `scopes` that are `allowed`; all, if that would leave none."""
    named = list(scopes)
    return [scope for scope in named if scope in allowed] or named


def scope_to_register(scope: str | None, of_resource: Iterable[str], configured: Iterable[str] | None) -> str | None:
    """What to register for: the login's scope, and what the resource may want later, lest each step-up make another
    client of us, and the refresh tokens of the one before become useless."""
    more = () if configured is not None else of_resource
    return " ".join(dict.fromkeys((*split_scope(scope or ""), *more))) or None


def authorization_url(
    server: ServerMetadata,
    *,
    client_id: str,
    redirect_uri: str,
    scope: str | None,
    resource: str | None,
    state: str,
    verifier: str,
    further: Mapping[str, str],
) -> str:
    """Where the browser goes. `further` are the operator's own parameters and replace none of ours."""
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": S256,
    }
    if scope is not None:
        parameters["scope"] = scope
        if OFFLINE in scope.split(" "):
            # Core 11: the server "MUST ignore the offline_access request" unless consent is asked for.
            parameters["prompt"] = further.get("prompt", "consent")
    if resource is not None:
        parameters["resource"] = resource
    endpoint = server.authorization_endpoint
    # RFC 6749 3.1: a query of the endpoint "MUST be retained when adding additional query parameters"
    joint = "?" if "?" not in endpoint else "" if endpoint.endswith(("?", "&")) else "&"
    return endpoint + joint + urlencode(dict(further) | parameters, quote_via=quote)


def check_answer(beginning: Beginning, parameters: Mapping[str, str]) -> None:
    """Return if an authorization response comes from the server that was asked; before that, nothing in it counts, its
    error no more than its code.

    MCP, "Authorization Response Validation", four rows: `iss` promised or not, there or not. Compared as plain text:
    "MUST NOT apply scheme or host case folding, default-port elision, trailing-slash, or percent-encoding".

    Raises:
        Refusal: 403 if it does not.
    """
    issuer = parameters.get("iss")
    if issuer is None and beginning.iss_promised:
        raise Refusal(
            403, "access_denied", "The answer does not say who gave it, though its server promises to say so."
        )
    if issuer is not None and issuer != (beginning.answers_as or beginning.issuer):
        raise Refusal(403, "access_denied", "The answer comes from another authorization server than the one asked.")
