"""From the configuration's secrets to the ring, and anew when a secret's file changes."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from aggregator.config.model import Auth, Config, Secret
from aggregator.keys.deployment import LOOK_INTERVAL, describe, make_key_ring, watch_secret_files
from aggregator.protocol.sealing import KeyRing, key_id

K1, K2, K3 = ((bytes([number]) + bytes(range(31))).hex() for number in (1, 2, 3))
ROUNDS = 40  # looks at the file; far more than it takes


def name(key: str) -> str:
    return key_id(bytes.fromhex(key))


def config(*secrets: Secret) -> Config:
    first, others = (secrets[0], secrets[1:]) if secrets else (None, ())
    return Config(Auth("https://idp.example"), (), "https://mcp.example", secret=first, other_secrets=others)


def from_file(path: Path) -> Secret:
    return Secret(path.read_text(), file=str(path))


class Watched:
    """A ring whose files are watched in virtual time."""

    def __init__(self, keys: KeyRing, clock: trio.testing.MockClock) -> None:
        self.keys = keys
        self._clock = clock

    async def wait_names(self, *names: str) -> None:
        for _ in range(ROUNDS):
            if self.keys.key_ids == names:
                return
            await self.look()
        raise AssertionError(f"the keys are {self.keys.key_ids}")

    async def look(self) -> None:
        self._clock.jump(LOOK_INTERVAL)
        await trio.testing.wait_all_tasks_blocked()
        while trio.to_thread.current_default_thread_limiter().borrowed_tokens:  # a thread looks at the file
            await trio.testing.wait_all_tasks_blocked(0.001)
        await trio.testing.wait_all_tasks_blocked()

    async def wait_told(self, caplog: pytest.LogCaptureFixture, words: str) -> None:
        for _ in range(ROUNDS):
            if words in caplog.text:
                return
            await self.look()
        raise AssertionError(caplog.text)


@asynccontextmanager
async def watched(config: Config, clock: trio.testing.MockClock) -> AsyncIterator[Watched]:
    keys = make_key_ring(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_secret_files, config, keys)
        watching = Watched(keys, clock)
        for _ in range(4):  # the first reading, which finds what is known
            await watching.look()
        yield watching
        nursery.cancel_scope.cancel()


def test_the_first_secret_seals_and_the_others_open() -> None:
    keys = make_key_ring(config(Secret(K2), Secret(K1)))
    assert keys.key_ids == (name(K2), name(K1))
    assert describe(keys) == f"seals with key {name(K2)}, opens also {name(K1)}"


def test_without_a_secret_the_key_is_random() -> None:
    assert make_key_ring(config()).key_ids != make_key_ring(config()).key_ids


async def test_without_a_file_nothing_is_watched() -> None:
    await watch_secret_files(config(Secret(K1)), KeyRing([bytes(32)]))


async def test_a_changed_file_changes_the_ring_and_is_told_once_without_the_secret(
    tmp_path: Path, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secret"
    file.write_text(K1)
    caplog.set_level(logging.INFO)
    async with watched(config(from_file(file), Secret(K3)), mock_clock) as watching:
        assert caplog.records == []
        file.write_text(K2 + "\n")
        await watching.wait_names(name(K2), name(K3))
        for _ in range(5):
            await watching.look()
    assert [record.getMessage() for record in caplog.records] == [
        f"secret: read again after a change: now seals with key {name(K2)}, opens also {name(K3)}",
        f"secret: key {name(K1)} is dropped: what it sealed is refused from now on",
    ]


async def test_a_mounted_secret_is_swapped_as_a_whole(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    """Kubernetes: the files are links through `..data`, a link to a directory that is exchanged by rename."""
    for version, (new, old) in (("..v1", (K1, K1)), ("..v2", (K2, K1))):
        (tmp_path / version).mkdir()
        (tmp_path / version / "new").write_text(new)
        (tmp_path / version / "old").write_text(old)
    (tmp_path / "..data").symlink_to("..v1")
    files = [tmp_path / "new", tmp_path / "old"]
    for file in files:
        file.symlink_to(f"..data/{file.name}")
    async with watched(config(*map(from_file, files)), mock_clock) as watching:
        assert watching.keys.key_ids == (name(K1),)
        (tmp_path / "..data_tmp").symlink_to("..v2")
        os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
        await watching.wait_names(name(K2), name(K1))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"tooshort", "has 8 characters"),
        (b"\xff\xfe", "not UTF-8"),
        (None, "cannot be read"),
        (b"please-change-me-now", "well-known"),
    ],
)
async def test_a_bad_file_keeps_the_ring_says_so_once_and_a_good_one_heals(
    content: bytes | None,
    words: str,
    tmp_path: Path,
    mock_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "secret"
    file.write_text(K1)
    async with watched(config(from_file(file)), mock_clock) as watching:
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        await watching.wait_told(caplog, words)
        for _ in range(5):
            await watching.look()
        assert watching.keys.key_ids == (name(K1),)
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert str(file) in record.getMessage()
        file.write_text(K2)
        await watching.wait_names(name(K2))


async def test_what_changed_between_reading_the_configuration_and_the_first_look_counts(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    file = tmp_path / "secret"
    file.write_text(K1)
    loaded = config(from_file(file))
    file.write_text(K2)
    async with watched(loaded, mock_clock) as watching:
        await watching.wait_names(name(K2))


async def test_a_file_that_is_still_being_written_is_waited_for(
    tmp_path: Path, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a key of 64 hexadecimal characters would pass for a passphrase."""
    file = tmp_path / "secret"
    file.write_text(K1)
    async with watched(config(from_file(file)), mock_clock) as watching:
        for length in range(34, 64, 6):
            file.write_text(K2[:length])
            await watching.look()
        file.write_text(K2)
        await watching.wait_names(name(K2))
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # that the first key is dropped
