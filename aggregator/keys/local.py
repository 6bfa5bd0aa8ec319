"""The key of local mode, under which logins outlive a restart: in the desktop's keyring, or else in a file beside the
store that only its owner reads.

This file must not know what is sealed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from pathlib import Path

from ..config.model import Secret
from ..config.scalars import Wrong
from ..config.secrets import check_secret, new_secret, read_deployment_secret
from ..errors import StoreUnavailable
from .os_keyring import Keyring, KeyringClosed


def read_local_key(storage: str, keyring: Keyring | None = None) -> Secret:
    """The key that belongs to the store at the path `storage`; made, with the store's directory, if there is none.

    With a `keyring` it is kept there, unless there is a file already or it cannot be kept. Several processes may ask at
    once and get the same. Blocks.

    Raises:
        StoreUnavailable: if it cannot be made or had, or the file is not ours alone or holds no key.
    """
    path = Path(storage).with_suffix(".key")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            kept = None if keyring is None else _from_keyring(keyring, path, Path(storage))
            if kept is not None:
                return kept
            _make(path)
        found = path.stat()
    except OSError as exc:
        raise StoreUnavailable(f"the key {path} cannot be made: {exc.strerror}. Give 'secret' or 'storage'.") from exc
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise StoreUnavailable(
            f"the key {path} can be read by others; if nobody has, 'chmod 600 {path}', else remove it and log in again."
        )
    try:
        return read_deployment_secret({"file": str(path)}, Path())
    except Wrong as exc:
        raise StoreUnavailable(f"the key {path} is no key: {exc}. Remove it and log in again.") from exc


def _from_keyring(keyring: Keyring, path: Path, storage: Path) -> Secret | None:
    """The key as the keyring has it, or has it from now on; None if it cannot keep one."""
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a keyring has no way to set what nobody else has set
        try:
            text = keyring.get(str(path))
        except KeyringClosed as exc:
            if not storage.exists():
                return None  # nothing is sealed yet
            raise StoreUnavailable(
                f"the keyring, which has the key of {storage}, cannot be asked: {exc}. Unlock it and start again, or "
                f"remove {storage} and log in again."
            ) from exc
        if text is None:
            text = new_secret()
            if not keyring.set(str(path), text):
                return None
        check_secret(text)
        return Secret(text)
    except Wrong as exc:
        raise StoreUnavailable(f"what the keyring has for {path} is no key: {exc}") from exc
    finally:
        os.close(lock)


def _make(path: Path) -> None:
    """A whole file or none: whoever comes second takes the first one's."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(new_secret() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
    finally:
        draft.unlink()
