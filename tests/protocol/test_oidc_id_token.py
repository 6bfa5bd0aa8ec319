"""`protocol.oidc.id_token` and `.keys`: only the provider's token, for us, of this login, and of now, passes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import IdentityProviderUnavailable, LoginRefused
from aggregator.protocol.oidc import ProviderMetadata, is_signed_by, parse_jwks, validate_id_token

from .signing import CLIENT_ID, ISSUER, KIND_OF, NONCE, NOW, Signer, b64, good_claims, hmac_token, jwks, make_key

METADATA = ProviderMetadata(ISSUER, ISSUER + "/a", ISSUER + "/t", ISSUER + "/k")
SIGNER = Signer()
KEYS = parse_jwks(jwks(SIGNER.jwk()))


def validate(id_token: str, keys: Any = KEYS, *, nonce: str = NONCE, now: float = NOW) -> dict[str, Any]:
    return dict(validate_id_token(id_token, keys, METADATA, client_id=CLIENT_ID, nonce=nonce, now=now))


def refusal(id_token: str, keys: Any = KEYS, **arguments: Any) -> str:
    with pytest.raises(LoginRefused) as caught:
        validate(id_token, keys, **arguments)
    return str(caught.value)


@pytest.mark.requirement("OI4")
@pytest.mark.parametrize("alg", sorted(KIND_OF))
def test_every_asymmetric_algorithm_of_the_list_is_verified(alg: str) -> None:
    signer = Signer(alg)
    keys = parse_jwks(jwks(signer.jwk()))
    assert validate(signer.id_token(color="green"), keys)["color"] == "green"
    stranger = Signer(alg, serial=1)
    assert not is_signed_by(stranger.id_token(), keys)
    assert "none of the identity provider's keys" in refusal(stranger.id_token(), keys)


@pytest.mark.requirement("OI4")
@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "HS256", "HS384", "HS512", "ES256K", "RS1", "dir", "", 7, None, []]
)
def test_no_other_algorithm_is_accepted(alg: object) -> None:
    head = b64(json.dumps({"alg": alg, "kid": "k1"}).encode())
    payload, signature = SIGNER.id_token().split(".")[1:]
    for ending in (signature, ""):
        assert "signed with" in refusal(f"{head}.{payload}.{ending}")
    with pytest.raises(LoginRefused):
        is_signed_by(f"{head}.{payload}.{signature}", KEYS)


@pytest.mark.requirement("OI4")
def test_a_public_key_is_no_hmac_secret() -> None:
    for secret in (
        SIGNER.key.as_pem(private=False),
        json.dumps(SIGNER.jwk()).encode(),
        SIGNER.key.as_der(private=False),
    ):
        assert "HS256" in refusal(hmac_token(secret, good_claims()))


@pytest.mark.requirement("OI4")
def test_a_key_verifies_only_the_algorithm_it_is_published_for() -> None:
    assert "keys" in refusal(Signer("PS256").id_token(), KEYS)
    unbound = {name: value for name, value in SIGNER.jwk().items() if name != "alg"}
    assert validate(Signer("PS512").id_token(), parse_jwks(jwks(unbound)))["sub"] == "alice"
    crossed = parse_jwks(jwks({**Signer("ES256").jwk(), "alg": "EdDSA"}, Signer("EdDSA").jwk()))
    assert not is_signed_by(Signer("ES256").id_token(), crossed)


@pytest.mark.requirement("OI4")
def test_eddsa_and_ed25519_are_one_algorithm() -> None:
    assert is_signed_by(Signer("Ed25519").id_token(), parse_jwks(jwks(Signer("EdDSA").jwk())))
    assert is_signed_by(Signer("EdDSA").id_token(), parse_jwks(jwks(Signer("Ed25519").jwk())))


@pytest.mark.requirement("OI4")
@pytest.mark.parametrize(
    "extra", [{"crit": ["exp"], "exp": 1}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"b64": False}]
)
def test_critical_extensions_are_refused(extra: dict[str, Any]) -> None:
    assert "critical" in refusal(SIGNER.id_token(header=extra))


@pytest.mark.requirement("OI4")
@pytest.mark.parametrize(
    "extra",
    [
        {"jwk": Signer("RS256", serial=1).jwk()},
        {"jku": "https://evil.example.com/keys"},
        {"x5u": "https://evil.example.com/cert"},
        {"kid": "k1", "x5c": ["MIIB"]},
    ],
)
def test_a_key_that_the_token_brings_along_is_ignored(extra: dict[str, Any]) -> None:
    assert "keys" in refusal(Signer("RS256", serial=1).id_token(header=extra))
    assert validate(SIGNER.id_token(header={"typ": "JWT", "x5t": "abc", "vendor": {"a": 1}}))["sub"] == "alice"


@pytest.mark.requirement("OI1")
@pytest.mark.parametrize("iss", ["https://evil.example.com", ISSUER + "/", ISSUER.upper(), "", None, 7, [ISSUER]])
def test_another_issuer_is_refused(iss: object) -> None:
    assert "'iss'" in refusal(SIGNER.id_token(iss=iss))
    assert "'iss'" in refusal(SIGNER.id_token(drop="iss"))


@pytest.mark.requirement("OI2")
@pytest.mark.parametrize("aud", [CLIENT_ID, [CLIENT_ID], [CLIENT_ID, CLIENT_ID]])
def test_the_audience_is_us(aud: object) -> None:
    assert validate(SIGNER.id_token(aud=aud))["sub"] == "alice"


@pytest.mark.requirement("OI2")
@pytest.mark.parametrize(
    "aud",
    [
        "other",
        CLIENT_ID + " ",
        CLIENT_ID.upper(),
        [],
        ["other"],
        [CLIENT_ID, "other"],
        [[CLIENT_ID]],
        {CLIENT_ID: 1},
        7,
        None,
        "",
    ],
)
def test_any_other_audience_is_refused(aud: object) -> None:
    assert "'aud'" in refusal(SIGNER.id_token(aud=aud))
    assert "'aud'" in refusal(SIGNER.id_token(drop="aud"))


@pytest.mark.requirement("OI3")
def test_azp_when_present_is_us() -> None:
    assert validate(SIGNER.id_token(azp=CLIENT_ID))["azp"] == CLIENT_ID
    for azp in ("other", "", None, [CLIENT_ID]):
        assert "'azp'" in refusal(SIGNER.id_token(azp=azp))


@pytest.mark.requirement("OI5")
@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        ({"exp": NOW + 1}, True),
        ({"exp": NOW - 59.5}, True),
        ({"exp": NOW - 60}, False),
        ({"exp": NOW - 3600}, False),
        ({"exp": NOW + 0.25, "iat": NOW - 0.75}, True),
        ({"iat": NOW + 59.5}, True),
        ({"iat": NOW + 61}, False),
        ({"iat": NOW + 600}, False),
        ({"nbf": NOW + 59}, True),
        ({"nbf": NOW + 61}, False),
        ({"exp": "2030"}, False),
        ({"exp": str(NOW + 60)}, False),
        ({"exp": True}, False),
        ({"exp": None}, False),
        ({"iat": False}, False),
        ({"iat": None}, False),
        ({"iat": [NOW]}, False),
        ({"nbf": "soon"}, False),
        ({"exp": int("9" * 400)}, False),
        ({"exp": NOW + 10**9}, True),
        ({"iat": int("9" * 400)}, False),
        ({"auth_time": 1.5}, True),
    ],
)
def test_times_hold_within_a_minute(claims: dict[str, Any], accepted: bool) -> None:
    token = SIGNER.id_token(**claims)
    if accepted:
        assert validate(token)["sub"] == "alice"
    else:
        refusal(token)


@pytest.mark.requirement("OI5")
@pytest.mark.parametrize("name", ["exp", "iat"])
def test_times_are_required(name: str) -> None:
    assert f"'{name}'" in refusal(SIGNER.id_token(drop=name))


@pytest.mark.requirement("OI5")
@pytest.mark.parametrize("nonce", ["another", "", NONCE + " ", NONCE[:-1], None, 7, [NONCE], "nönce"])
def test_another_nonce_is_refused(nonce: object) -> None:
    assert "'nonce'" in refusal(SIGNER.id_token(nonce=nonce))
    assert "'nonce'" in refusal(SIGNER.id_token(drop="nonce"))
    assert "'nonce'" in refusal(SIGNER.id_token(), nonce="of another login")


@pytest.mark.parametrize("sub", [None, "", 7, ["alice"]])
def test_a_subject_is_required(sub: object) -> None:
    assert "'sub'" in refusal(SIGNER.id_token(sub=sub))


@pytest.mark.requirement("OI8")
def test_a_key_is_found_by_its_exact_name() -> None:
    keys = parse_jwks(jwks(Signer(kid="old", serial=1).jwk(), Signer(kid="k1").jwk(), Signer("ES256", "k3").jwk()))
    assert validate(Signer(kid="k1").id_token(), keys)["sub"] == "alice"
    for kid in ("unknown", "K1", "k1 ", "", "old", "k3"):
        assert not is_signed_by(Signer(kid=kid).id_token(), keys)
        refusal(Signer(kid=kid).id_token(), keys)


def test_a_name_of_a_key_must_be_text() -> None:
    for kid in (7, ["k1"], {"k": 1}):
        assert "'kid'" in refusal(SIGNER.id_token(header={"kid": kid}))


def test_keys_that_share_a_name_are_all_tried() -> None:
    keys = parse_jwks(jwks(Signer(serial=1).jwk(), Signer("ES256").jwk(), SIGNER.jwk()))
    assert validate(SIGNER.id_token(), keys)["sub"] == "alice"
    assert validate(Signer("ES256").id_token(), keys)["sub"] == "alice"
    assert not is_signed_by(Signer(serial=2).id_token(), keys)


def test_without_a_name_there_must_be_one_suitable_key() -> None:
    nameless = Signer(kid=None)
    assert (
        validate(nameless.id_token(), parse_jwks(jwks(nameless.jwk(), Signer("ES256", "k2").jwk())))["sub"] == "alice"
    )
    assert validate(nameless.id_token(), KEYS)["sub"] == "alice"
    several = parse_jwks(jwks(nameless.jwk(), Signer(kid="k2", serial=1).jwk()))
    assert "several" in refusal(nameless.id_token(), several)


@pytest.mark.parametrize(
    "unusable",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"alg": "RSA-OAEP"},
        {"alg": "HS256"},
        {"alg": 7},
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"},
        {"kty": "unknown"},
        {"kty": None},
        {"kid": 7},
        {"n": "AQAB"},
        {"n": 7},
        {"n": None},
        {"n": "not base64!"},
        {"n": "A" * 4000},
        {"e": ""},
        {"e": "AA"},
    ],
)
def test_a_key_we_cannot_use_is_ignored_and_the_others_serve(unusable: dict[str, Any]) -> None:
    broken = {**Signer(kid="other").jwk(), **unusable}
    keys = parse_jwks(jwks(broken, SIGNER.jwk()))
    assert [key.kid for key in keys] == ["k1"]
    with pytest.raises(IdentityProviderUnavailable):
        parse_jwks(jwks(broken))


@pytest.mark.parametrize(
    "broken",
    [
        {**Signer("ES256").jwk(), "crv": "P-384"},
        {**Signer("ES256").jwk(), "crv": "secp256k1"},
        {**Signer("ES256").jwk(), "y": Signer("ES256", serial=1).jwk()["y"]},
        {**Signer("EdDSA").jwk(), "crv": "X25519"},
        {**Signer("EdDSA").jwk(), "crv": "Ed448"},
        {**Signer("EdDSA").jwk(), "x": "AAAA"},
        {"kty": "EC"},
        "a text",
        None,
        [],
    ],
)
def test_a_point_off_its_curve_is_no_key(broken: object) -> None:
    keys = parse_jwks(json.dumps({"keys": [broken, SIGNER.jwk()]}).encode())
    assert [key.kid for key in keys] == ["k1"]


def test_private_parts_are_not_kept() -> None:
    published = {**make_key("RSA", 0).as_dict(private=True), "kid": "k1"}
    assert "d" in published
    (key,) = parse_jwks(jwks(published))
    assert not key.key.is_private
    assert validate(SIGNER.id_token(), (key,))["sub"] == "alice"


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"keys": {}}', b'{"keys": []}', b"[]", b'{"keys": null}'])
def test_a_set_without_keys_is_the_providers_fault(body: bytes) -> None:
    with pytest.raises(IdentityProviderUnavailable, match="key set"):
        parse_jwks(body)


def test_a_flood_of_keys_is_cut() -> None:
    assert len(parse_jwks(jwks(*(SIGNER.jwk(kid=str(number)) for number in range(1000))))) == 100


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"text",
        b"\xff",
        b'{"sub": "alice", "sub": "bob"}',
        b'{"exp": NaN}',
        b'{"sub": "\\ud800"}',
        b"[" * 50_000,
    ],
)
def test_a_signed_payload_that_is_no_claims_set_is_refused(payload: bytes) -> None:
    refusal(SIGNER.sign(payload))


def test_a_header_with_two_algorithms_is_refused() -> None:
    head = b64(b'{"alg":"none","alg":"RS256","kid":"k1"}')
    assert "twice" in refusal(head + SIGNER.id_token()[SIGNER.id_token().index(".") :])


def test_a_huge_token_is_refused_unread() -> None:
    assert "not a signed JWT" in refusal(SIGNER.id_token(filler="x" * 70_000))


def test_a_refusal_shows_nothing_of_the_token() -> None:
    token = SIGNER.id_token(nonce="other", email="secret@example.com")
    text = refusal(token)
    assert "secret@example.com" not in text
    assert not any(part in text for part in token.split("."))


TOKEN = SIGNER.id_token()


@given(st.integers(0, len(TOKEN) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_any_changed_character_is_refused(position: int, character: str) -> None:
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]
    if changed != TOKEN:
        refusal(changed)


@given(
    st.text(max_size=60) | st.lists(st.text(alphabet="abcXYZ-_=.é", max_size=20), min_size=3, max_size=3).map(".".join)
)
def test_no_text_raises_anything_else(text: str) -> None:
    refusal(text)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "crit", "typ", "jwk"]), st.none() | st.text() | st.integers()))
def test_no_header_raises_anything_else(header: dict[str, Any]) -> None:
    payload, signature = TOKEN.split(".")[1:]
    if header not in ({"alg": "RS256"}, {"alg": "RS256", "kid": "k1"}):
        refusal(f"{b64(json.dumps(header).encode())}.{payload}.{signature}")


def test_a_cut_or_joined_token_is_refused() -> None:
    head, payload, signature = TOKEN.split(".")
    other = Signer(kid="k1").id_token(sub="bob").split(".")
    for text in (
        f"{head}.{payload}",
        f"{head}.{payload}.",
        f"{head}..{signature}",
        f"{head}.{other[1]}.{signature}",
        f"{TOKEN}.{signature}",
        f"{TOKEN}=",
        f" {TOKEN}",
        f"{TOKEN}\n",
        replace(SIGNER, alg="PS256").id_token().replace(b64(b'{"alg": "PS256", "kid": "k1"}'), head),
    ):
        refusal(text)
