"""The Unix socket at a path: whose it is, what it replaces, and what is left at the end."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from aggregator.serving import CannotListen
from aggregator.unix_socket import open_unix_socket


def reach(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))


def test_it_is_for_its_owner_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with open_unix_socket(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reach(path)
        assert os.listdir(tmp_path) == ["x.sock"]
    assert os.listdir(tmp_path) == []


def test_one_that_nobody_listens_at_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(path))
    assert path.exists()
    with open_unix_socket(str(path)):
        reach(path)


def test_one_that_somebody_listens_at_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with (
        open_unix_socket(str(path)),
        pytest.raises(CannotListen, match="another program listens"),
        open_unix_socket(str(path)),
    ):
        pass
    with open_unix_socket(str(path)):
        reach(path)


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(CannotListen, match="is a file that is no socket"), open_unix_socket(str(path)):
        pass
    assert path.read_text() == "mine"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match=r"no/x\.sock': No such file"), open_unix_socket(str(tmp_path / "no/x.sock")):
        pass


def test_what_has_taken_its_place_meanwhile_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with open_unix_socket(str(path)):
        path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as newer:
            newer.bind(str(path))
    assert path.exists()
