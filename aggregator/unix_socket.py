"""A listening Unix socket at a path: for its owner alone, in the place of one that nobody listens at any more.

This file must not know what is served.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .serving import BACKLOG, CannotListen

ANSWER = 1.0  # seconds that a listener, if there is one, has to take a connection


@contextmanager
def open_unix_socket(path: str) -> Iterator[socket.socket]:
    """Listen at `path` with mode 0600. At the end the file is removed, unless another has taken its place.

    Raises:
        CannotListen: if somebody listens there, the file is none of a socket, or none can be made there.
    """
    _check_free(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)  # else it could be connected to before a chmod
        try:
            with suppress(FileNotFoundError):
                os.unlink(path)
            listener.bind(path)
            ours = os.stat(path)
            listener.listen(BACKLOG)
        except OSError as exc:
            raise CannotListen(f"socket: cannot listen at '{path}': {exc.strerror or exc}") from exc
        finally:
            os.umask(before)
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), ours):
                    os.unlink(path)
    finally:
        listener.close()


def _check_free(path: str) -> None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise CannotListen(f"socket: cannot listen at '{path}': {exc.strerror}") from exc
    if not stat.S_ISSOCK(found.st_mode):
        raise CannotListen(f"socket: '{path}' is a file that is no socket; remove it or name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(ANSWER)
        try:
            asking.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return  # whoever made it has ended without removing it
        except OSError:
            pass  # its queue is full, or it is not ours
    raise CannotListen(f"socket: another program listens at '{path}'; stop it or name another path")
