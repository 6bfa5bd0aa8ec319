"""The key of local mode, under which logins outlive a restart: a file beside the store that only its owner reads.

This file must not know what is sealed.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from .config.model import Secret
from .config.scalars import Wrong
from .config.secrets import new_secret, read_deployment_secret
from .errors import StoreUnavailable


def read_local_key(storage: str) -> Secret:
    """The key that belongs to the store at the path `storage`; made, with the store's directory, if there is none.

    Several processes may ask at once and get the same.

    Raises:
        StoreUnavailable: if it cannot be made, or the file is not ours alone or holds no key.
    """
    path = Path(storage).with_suffix(".key")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
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
