"""Certificates and keys as files: what the listener serves TLS with, and what we trust beyond the system's authorities.

This file owns the checks at start, so that a bad file is a line in the report and not a crash later; paths are told
whole. It must not know who connects to whom.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .scalars import Wrong, parse_text


def read_certificate_path(value: Any, cwd: Path) -> str:
    """The path of a PEM file with a certificate and its chain, made absolute."""
    path, text = _read(value, cwd)
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise Wrong(f"the file '{path}' holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
    return path


def read_key_path(value: Any, cwd: Path) -> str:
    """The path of a PEM file with an unencrypted private key, made absolute."""
    path, text = _read(value, cwd)
    if "PRIVATE KEY-----" not in text:
        raise Wrong(f"the file '{path}' holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")
    if "ENCRYPTED" in text:
        raise Wrong(f"the private key in '{path}' is encrypted; give one without a passphrase, readable by us only")
    return path


def read_authorities_path(value: Any, cwd: Path) -> str:
    """The path of a PEM file with certificates of authorities, made absolute."""
    path = read_certificate_path(value, cwd)
    import ssl  # here, because few configurations need it and all would wait for it

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as exc:
        raise Wrong(f"TLS cannot use the certificates in '{path}': {getattr(exc, 'reason', None) or exc}") from exc
    return path


def check_pair(cert_file: str, key_file: str) -> None:
    """
    Raises:
        Wrong: if the key is not that of the certificate, or TLS cannot use them.
    """
    import ssl  # here, because few configurations need it and all would wait for it

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password="")
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise Wrong(
                f"the private key in '{key_file}' is not that of the first certificate in '{cert_file}'"
            ) from exc
        raise Wrong(f"TLS cannot use '{cert_file}' with '{key_file}': {exc.reason or exc}") from exc
    except OSError as exc:
        raise Wrong(f"'{cert_file}' or '{key_file}' cannot be read: {exc.strerror or exc}") from exc


def _read(value: Any, cwd: Path) -> tuple[str, str]:
    path = str((cwd / parse_text(value)).absolute())
    try:
        return path, Path(path).read_text(encoding="latin-1")
    except OSError as exc:
        raise Wrong(f"the file '{path}' cannot be read: {exc.strerror or exc}") from exc
