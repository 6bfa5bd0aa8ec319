"""What the operator configured for everyone, and how a rotated token is taken up."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio

from aggregator.config.model import Secret, Upstream
from aggregator.upstream.credentials import EVERYONE, ConfiguredCredentials, Credential


def upstream(*headers: tuple[str, Secret]) -> Upstream:
    return Upstream("wiki", "https://wiki.example.com/mcp", "wiki", auth_type="bearer", headers=headers)


def from_file(file: Path, prefix: str = "") -> Secret:
    return Secret(file.read_text().strip(), file=str(file)).after(prefix)


async def test_everybody_sends_what_is_configured() -> None:
    credentials = ConfiguredCredentials(upstream(("X-Team", Secret("eng")), ("Authorization", Secret("Bearer t"))))
    credential = await credentials.current(None)
    assert credential.owner == EVERYONE
    assert credential.headers == ((b"x-team", b"eng"), (b"authorization", b"Bearer t"))
    assert "Bearer" not in repr(credential)


async def test_what_came_of_no_file_cannot_be_renewed() -> None:
    for headers in ((), (("Authorization", Secret("Bearer t")),)):
        credentials = ConfiguredCredentials(upstream(*headers))
        assert await credentials.renewed(None, await credentials.current(None), 401, "") is None


async def test_a_rotated_token_is_read_again_when_the_old_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    credentials = ConfiguredCredentials(
        upstream(("Authorization", from_file(file, "Bearer ")), ("X-Team", Secret("eng")))
    )
    old = await credentials.current(None)
    assert await credentials.renewed(None, old, 401, "") is None  # the file says the same still
    file.write_text("new\n")
    assert await credentials.renewed(None, old, 403, "") is None  # a right is lacking, not a token
    new = await credentials.renewed(None, old, 401, "")
    assert new == Credential(headers=((b"authorization", b"Bearer new"), (b"x-team", b"eng")))
    assert await credentials.current(None) == new
    file.write_text("newer\n")
    assert await credentials.renewed(None, old, 401, "") == new  # another call was faster: its answer is tried first


async def test_of_many_calls_that_are_refused_at_once_each_gets_the_new_token(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    credentials = ConfiguredCredentials(upstream(("X-Api-Key", from_file(file))))
    old = await credentials.current(None)
    file.write_text("new")
    renewed: list[Credential | None] = []

    async def call() -> None:
        renewed.append(await credentials.renewed(None, old, 401, ""))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(call)
    assert renewed == [Credential(headers=((b"x-api-key", b"new"),))] * 20


async def test_a_call_that_goes_away_while_the_file_is_read_leaves_it_usable(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    credentials = ConfiguredCredentials(upstream(("X-Api-Key", from_file(file))))
    old = await credentials.current(None)
    file.write_text("new")
    with trio.CancelScope() as scope:
        scope.cancel()
        await credentials.renewed(None, old, 401, "")
    assert await credentials.renewed(None, old, 401, "") == Credential(headers=((b"x-api-key", b"new"),))


@pytest.mark.parametrize("content", [None, "", "hunter2\nhunter2\n"])
async def test_a_file_that_cannot_be_used_is_told_once_and_the_old_value_stays(
    content: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    credentials = ConfiguredCredentials(upstream(("X-Api-Key", from_file(file))))
    old = await credentials.current(None)
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert await credentials.renewed(None, old, 401, "") is None
    (record,) = caplog.records
    assert record.getMessage().startswith("wiki: its credential was refused, and cannot be read anew: ")
    assert "hunter2" not in record.getMessage()
    assert await credentials.current(None) == old
