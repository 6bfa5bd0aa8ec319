"""Files of certificates and keys: each problem names the file and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from aggregator.config.model import Tls
from tests.fakes.https import Authority, make_authority

from .loading import load, problems_of, with_top


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def written(cert: Path, key: Path, **more: Any) -> str:
    return with_top(tls={"certFile": str(cert), "keyFile": str(key)}, **more)


def test_a_pair_that_fits_is_served_at_an_https_url(authority: Authority) -> None:
    config = load(written(authority.chain, authority.key)).config
    assert config.tls == Tls(str(authority.chain), str(authority.key))
    assert config.issuer_url == "https://localhost:3000"


def test_a_key_of_another_certificate_is_told_with_both_paths(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_authority(tmp_path / "other")
    (problem,) = problems_of(written(authority.chain, other.key))
    assert problem.path == "tls"
    assert str(authority.chain) in problem.message
    assert str(other.key) in problem.message
    assert "is not that of" in problem.message


def test_each_file_that_cannot_be_used_is_told_by_its_path(authority: Authority, tmp_path: Path) -> None:
    nowhere, garbage = tmp_path / "nowhere.pem", tmp_path / "garbage.pem"
    garbage.write_bytes(b"\xff\x00 no PEM")
    for cert, key, path, says in (
        (nowhere, authority.key, "tls.certFile", "No such file"),
        (authority.chain, nowhere, "tls.keyFile", "No such file"),
        (tmp_path, authority.key, "tls.certFile", "Is a directory"),
        (garbage, authority.key, "tls.certFile", "no certificate"),
        (authority.chain, garbage, "tls.keyFile", "no private key"),
        (authority.key, authority.key, "tls.certFile", "no certificate"),
    ):
        (problem,) = problems_of(written(cert, key))
        assert (problem.path, says in problem.message) == (path, True), problem
        named = cert if path == "tls.certFile" else key
        assert named.name in problem.message


def test_an_encrypted_key_asks_nobody_for_its_passphrase(authority: Authority, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    (problem,) = problems_of(written(authority.chain, encrypted))
    assert problem.path == "tls.keyFile"
    assert "is encrypted" in problem.message


def test_a_certificate_that_only_looks_like_one_is_refused(authority: Authority) -> None:
    authority.chain.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (problem,) = problems_of(written(authority.chain, authority.key))
    assert problem.path == "tls"
    assert authority.chain.name in problem.message


def test_half_a_pair_is_told(authority: Authority) -> None:
    (problem,) = problems_of(with_top(tls={"certFile": str(authority.chain)}))
    assert (problem.path, problem.message) == ("tls.keyFile", "is missing")


def test_authorities_to_trust_are_a_file_of_certificates(authority: Authority, tmp_path: Path) -> None:
    file = str(authority.authority)
    assert load(with_top(outbound={"caFile": file})).config.ca_file == file
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for wrong in (tmp_path / "nowhere.pem", authority.key, garbage):
        (problem,) = problems_of(with_top(outbound={"caFile": str(wrong)}))
        assert problem.path == "outbound.caFile"
        assert str(wrong) in problem.message
