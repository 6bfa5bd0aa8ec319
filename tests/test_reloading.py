"""What is taken up of another configuration, and what is said of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from aggregator import open_aggregator
from aggregator.config.load import Loaded, load_config, parse_config
from aggregator.config.model import Auth, Config, LocalConfig, Secret, Servable, Upstream
from aggregator.errors import ConfigError, Problem
from aggregator.reloading import WATCH_INTERVAL, Reload, load_again, waiting_for_restart, watch
from aggregator.upstream.roster import Change

GOOD = "upstreams: [{name: wiki, url: 'https://wiki.example.com/mcp', auth: {type: none}}]\n"
RUNNING = LocalConfig(None, (), "http://localhost:3000", host="127.0.0.1", storage="memory")


class Serving:
    def __init__(self) -> None:
        self.taken: list[Servable] = []

    async def become(self, config: Servable) -> Change:
        await trio.lowlevel.checkpoint()
        self.taken.append(config)
        return Change(("a", "b"), ("c",), ())

    def try_now(self, name: str | None = None) -> tuple[str, ...]:
        return ()


def loading(text: str, folder: Path) -> Callable[[], Loaded]:
    return lambda: parse_config(text, source="c.yaml", environ={"HOME": str(folder)}, cwd=folder)


async def test_a_good_configuration_is_taken_up_and_told(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    serving = Serving()
    with caplog.at_level(logging.INFO):
        assert await load_again(serving, Reload(RUNNING, loading(GOOD, tmp_path)))
    assert [upstream.name for upstream in serving.taken[0].upstreams] == ["wiki"]
    assert "configuration: loaded again from c.yaml: added a, b; changed c" in caplog.messages
    assert "configuration: restart to have the new storage" in caplog.messages


async def test_a_bad_configuration_is_told_in_every_detail_and_not_taken_up(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    serving = Serving()
    bad = GOOD.replace("url", "ulr") + "prot: 1\n"
    assert not await load_again(serving, Reload(RUNNING, loading(bad, tmp_path)))
    assert serving.taken == []
    assert caplog.messages[-1] == "the configuration was not taken up; the one before stays"
    assert "configuration: c.yaml:2:1: prot: is not a known key; did you mean 'port'?" in caplog.messages


async def test_a_file_that_is_gone_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def gone() -> Loaded:
        raise ConfigError("c.yaml", (Problem("", "there is no such file"),))

    serving = Serving()
    assert not await load_again(serving, Reload(RUNNING, gone))
    assert "configuration: c.yaml: there is no such file" in caplog.messages


async def test_a_watched_file_is_loaded_when_it_stays_the_same_for_a_moment(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(GOOD)
    serving = Serving()
    reload = Reload(RUNNING, lambda: load_config(str(file), environ={}, cwd=tmp_path), (str(file),))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, serving, reload)
        await trio.sleep(10 * WATCH_INTERVAL)
        assert serving.taken == []
        file.write_text(GOOD.replace("wiki", "other"))
        await trio.sleep(3 * WATCH_INTERVAL)
        for _ in range(500):  # it is read in a thread, for which virtual time does not wait
            if serving.taken:
                break
            await trio.to_thread.run_sync(time.sleep, 0.01)
        assert [each.upstreams[0].name for each in serving.taken] == ["other"]
        nursery.cancel_scope.cancel()


def config(**more: Any) -> Config:
    upstream = Upstream("wiki", "https://wiki.example.com/mcp", prefix="wiki")
    return replace(Config(Auth("https://idp.example.com"), (upstream,), "http://localhost:3000"), **more)


@pytest.mark.parametrize(
    ("other", "waiting"),
    [
        (config(), ()),
        (config(upstreams=()), ()),
        (config(tool_timeout=1.0), ("toolTimeout",)),
        (config(secret=Secret("x"), port=1), ("port", "secret")),
        (LocalConfig(None, (), "http://localhost:3000"), ("auth",)),
        (replace(config(), port=3001, issuer_url="http://localhost:3001"), ("port",)),
    ],
)
def test_what_was_built_in_at_the_start_waits_for_a_restart(other: Servable, waiting: tuple[str, ...]) -> None:
    assert waiting_for_restart(config(), other) == waiting


async def test_an_embedded_aggregator_takes_up_other_upstreams_and_their_pages(tmp_path: Path) -> None:
    before = LocalConfig(
        None, (Upstream("a", "http://127.0.0.1:9/mcp", prefix="a", auth_type="none"),), "http://localhost:3000"
    )
    after = replace(before, upstreams=(Upstream("b", "http://127.0.0.1:9/mcp", prefix="b", auth_type="oauth"),))
    async with open_aggregator(before) as aggregator:
        assert await aggregator.become(after) == Change(("b",), (), ("a",))
        assert not await aggregator.become(after)
