"""``POST /register`` over the wire."""

from __future__ import annotations

import json

import pytest

from ..deployment import Deployment, header, read

JSON = ("content-type", "application/json; charset=utf-8")


@pytest.mark.requirement("MD3")
async def test_a_registration_is_created_and_never_stored_by_caches() -> None:
    deployment = Deployment()
    body = json.dumps({"redirect_uris": ["http://localhost/cb"], "client_name": "X"}).encode()
    response = await deployment.send("POST", "/register", (JSON,), body)
    assert response.status == 201
    assert header(response, "cache-control") == "no-store"
    registered = read(response)
    assert not registered["client_id"].startswith("https://")
    assert len(registered["client_secret"]) >= 43  # 256 bits
    assert deployment.routes["/register"].cors
    assert deployment.routes["/register"].body_limit == 16 * 1024


@pytest.mark.requirement("TK12")
async def test_every_registration_is_another_client() -> None:
    deployment = Deployment()
    one, other = await deployment.register(), await deployment.register()
    assert one["client_id"] != other["client_id"]
    code = (await deployment.tokens(one))["refresh_token"]
    assert (await deployment.refresh(other, code)).status == 400


@pytest.mark.requirement("MD3")
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://c.example/cb"], "token_endpoint_auth_method": "x"}, "invalid_client_metadata"),
        ([], "invalid_client_metadata"),
    ],
)
async def test_bad_metadata_is_answered_with_the_rfcs_code(body: object, error: str) -> None:
    response = await Deployment().send("POST", "/register", (JSON,), json.dumps(body).encode())
    assert (response.status, read(response)["error"]) == (400, error)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "\xff"])
async def test_only_json_registers(kind: str) -> None:
    response = await Deployment().send("POST", "/register", (("content-type", kind),), b"{}")
    assert (response.status, read(response)["error"]) == (400, "invalid_client_metadata")
