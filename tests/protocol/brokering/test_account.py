"""The label of a connected account: learned where it can be, and never in the way."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from aggregator.protocol.brokering.account import (
    MAX_LABEL,
    label_of_token_response,
    label_of_userinfo,
    userinfo_request,
)

from .values import server


def answer(claims: Any) -> bytes:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return json.dumps({"access_token": "at", "id_token": f"e30.{part}.sig"}).encode()


@pytest.mark.parametrize(
    ("claims", "label"),
    [
        ({"email": "ada@example.com", "name": "Ada"}, "ada@example.com"),
        ({"preferred_username": "ada", "name": "Ada"}, "ada"),
        ({"login": "ada"}, "ada"),
        ({"name": "  Ada \n Lovelace\u202e "}, "Ada Lovelace"),
        ({"email": 5, "name": "Ada"}, "Ada"),
        ({"email": "  "}, None),
        ({"sub": "1"}, None),
        ([], None),
        ({"name": "a" * 500}, "a" * MAX_LABEL),
    ],
)
def test_the_most_telling_claim_is_the_label(claims: Any, label: str | None) -> None:
    assert label_of_token_response(answer(claims)) == label
    assert label_of_userinfo(200, json.dumps(claims).encode()) == label


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>", b'{"id_token": 5}', b'{"id_token": "a.b"}', b'{"id_token": "a.!.c"}']
)
def test_what_is_no_id_token_gives_no_label(body: bytes) -> None:
    assert label_of_token_response(body) is None
    assert label_of_userinfo(500, body) is None


def test_userinfo_is_asked_only_where_the_scope_is_for_that() -> None:
    at = server(userinfo_endpoint="https://as.example/userinfo")
    assert userinfo_request(at, "read openid", "at") == (
        "https://as.example/userinfo",
        {"accept": "application/json", "authorization": "Bearer at"},
    )
    assert userinfo_request(at, "read", "at") is None
    assert userinfo_request(at, None, "at") is None
    assert userinfo_request(server(), "openid", "at") is None
