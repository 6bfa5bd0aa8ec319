"""What an upstream's authorization server may be told, and where its answers may come back to."""

from __future__ import annotations

from typing import Any

import pytest

from aggregator.config.accounts import CALLBACKS, parse_authorization_parameter, parse_callback_path
from aggregator.config.scalars import Wrong

from ..web.deployment import Deployment


@pytest.mark.parametrize("name", ["access_type", "prompt", "audience", "X-vendor.param", "login_hint"])
def test_a_parameter_that_is_not_ours_is_taken(name: str) -> None:
    assert parse_authorization_parameter(name) == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("client_id", "set by the aggregator itself; use the key 'clientId'"),
        ("client_secret", "use the key 'clientSecret'"),
        ("scope", "use the key 'scopes'"),
        ("resource", "use the key 'sendResource'"),
        ("redirect_uri", "set by the aggregator itself; remove it"),
        ("state", "set by the aggregator itself"),
        ("STATE", "set by the aggregator itself"),
        ("nonce", "set by the aggregator itself"),
        ("code_challenge", "set by the aggregator itself"),
        ("code_challenge_method", "set by the aggregator itself"),
        ("response_type", "set by the aggregator itself"),
        ("response_mode", "set by the aggregator itself"),
        ("request", "set by the aggregator itself"),
        ("request_uri", "set by the aggregator itself"),
        ("a b", "is not the name of a parameter"),
        ("a&state", "is not the name of a parameter"),
        ("", "an empty text"),
        (None, "nothing is not a text"),
    ],
)
def test_other_parameters_are_refused_with_the_reason(name: Any, words: str) -> None:
    with pytest.raises(Wrong) as caught:
        parse_authorization_parameter(name)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "path", ["/upstream-auth/callback", "/upstream-auth/callback/wiki", "/oauth2/callback", "/cb/", "/a.b_c~d-e"]
)
def test_a_plain_path_of_ones_own_is_a_callback_path(path: str) -> None:
    assert parse_callback_path(path) == path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("oauth/callback", "does not begin with '/'"),
        ("https://mcp.example.com/cb", "does not begin with '/'"),
        ("/", "is not a plain path"),
        ("//evil.example/cb", "is not a plain path"),
        ("/a//b", "is not a plain path"),
        ("/a/../mcp", "is not a plain path"),
        ("/a/%2e%2e/mcp", "is not a plain path"),
        ("/a?b=c", "is not a plain path"),
        ("/a#b", "is not a plain path"),
        ("/a b", "is not a plain path"),
        ("/ä", "is not a plain path"),
        ("/" + "a" * 200, "is not a plain path"),
        ("/mcp", "is a path of the aggregator's own"),
        ("/callback", "is a path of the aggregator's own"),
        ("/connect/wiki", "is a path of the aggregator's own"),
        ("/.well-known/oauth-authorization-server", "is a path of the aggregator's own"),
        ("/upstream-auth/start", "is a path of the aggregator's own"),
        ("/upstream-auth/callbacks", "is a path of the aggregator's own"),
        ("", "an empty text"),
        (["/a"], "a list is not a text"),
    ],
)
def test_other_callback_paths_are_refused_with_the_reason(path: Any, words: str) -> None:
    with pytest.raises(Wrong) as caught:
        parse_callback_path(path)
    assert words in str(caught.value)


def test_a_forgotten_slash_is_suggested() -> None:
    with pytest.raises(Wrong) as caught:
        parse_callback_path("oauth/callback")
    assert caught.value.suggestion == "/oauth/callback"


async def test_no_callback_path_can_be_one_that_is_served() -> None:
    """A new endpoint has to be named among the taken paths."""
    for path in ("/mcp", "/healthz", "/readyz", *Deployment().routes):
        if path != CALLBACKS and not path.startswith(f"{CALLBACKS}/"):
            with pytest.raises(Wrong):
                parse_callback_path(path)
