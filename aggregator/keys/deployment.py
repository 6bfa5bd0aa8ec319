"""The deployment's keys: from the configuration into a ring, and anew when the file of a secret changes.

Orchestrators change a mounted secret in place (Kubernetes swaps a symlink to a
directory); what was read at start is then old. This file must not know what
the keys seal, nor say anything of a secret but the names of its keys.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

import trio

from ..config.model import Config, Secret
from ..config.scalars import Wrong
from ..config.secrets import derive_key, read_deployment_secret
from ..protocol.sealing import KEY_BYTES, KeyRing
from ..watched_files import WatchedFiles

LOOK_INTERVAL = 3.0  # seconds; a change counts after two of them at most

log = logging.getLogger(__name__)


def make_key_ring(config: Config) -> KeyRing:
    """The ring of `config`; of one random key if there is no secret. Blocks: a passphrase takes scrypt's 0.1 s."""
    return KeyRing(_keys(_secrets(config)) or [secrets.token_bytes(KEY_BYTES)])


def describe(keys: KeyRing) -> str:
    """Which keys these are, for a log that is compared with that of another instance."""
    first, *others = keys.key_ids
    return f"seals with key {first}" + (f", opens also {', '.join(others)}" if others else "")


async def watch_secret_files(config: Config, keys: KeyRing) -> None:
    """Give `keys` the new keys whenever the file of a secret has changed, until cancelled; returns if there is none.

    All keys are exchanged at once, or none: a file that is gone, or holds what cannot be a secret, leaves the ring as
    it is and is told once. A file that is being written is waited for.
    """
    read = _secrets(config)
    files = [secret.file for secret in read if secret.file is not None]
    if not files:
        return
    watched = WatchedFiles(files, LOOK_INTERVAL)  # nothing is known: what the configuration read may be old already
    while True:
        await watched.wait_changed()
        try:
            read = await trio.to_thread.run_sync(_read_again, read)
            changed = await trio.to_thread.run_sync(_keys, read)
        except Wrong as exc:
            log.error("secret: changed, but cannot be used: %s. The keys stay as they were: %s", exc, describe(keys))
        else:
            _exchange(keys, changed)


def _exchange(keys: KeyRing, changed: list[bytes]) -> None:
    before = keys.key_ids
    keys.replace(changed)
    if keys.key_ids == before:
        return
    log.info("secret: read again after a change: now %s", describe(keys))
    dropped = [name for name in before if name not in keys.key_ids]
    if dropped:
        log.warning("secret: key %s is dropped: what it sealed is refused from now on", ", ".join(dropped))


def _secrets(config: Config) -> tuple[Secret, ...]:
    return () if config.secret is None else (config.secret, *config.other_secrets)


def _keys(read: tuple[Secret, ...]) -> list[bytes]:
    return [derive_key(secret) for secret in read]


def _read_again(read: tuple[Secret, ...]) -> tuple[Secret, ...]:
    """
    Raises:
        Wrong: naming the first file that cannot be used.
    """
    again = []
    for secret in read:
        if secret.file is not None:
            try:
                secret = read_deployment_secret({"file": secret.file}, Path())
            except Wrong as exc:
                raise Wrong(f"{secret.file}: {exc}") from exc
        again.append(secret)
    return tuple(again)
