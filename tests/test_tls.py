"""TLS on the listener: the version, the certificate, and a renewal without a restart."""

from __future__ import annotations

import logging
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from aggregator.config.model import Tls
from aggregator.tls import LOOK_INTERVAL, make_server_context, watch_certificate

from .fakes.https import Authority, make_authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def tls_of(authority: Authority) -> Tls:
    return Tls(str(authority.chain), str(authority.key))


async def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> trio.SSLStream[Any]:
    """The client's end, after a handshake."""
    near, far = trio.testing.memory_stream_pair()
    served = trio.SSLStream(far, server, server_side=True, https_compatible=True)
    asking = trio.SSLStream(near, client, server_hostname="localhost", https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.do_handshake)
        await asking.do_handshake()
    return asking


@asynccontextmanager
async def watching(authority: Authority) -> AsyncIterator[ssl.SSLContext]:
    context = make_server_context(tls_of(authority))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_certificate, tls_of(authority), context)
        await trio.testing.wait_all_tasks_blocked()
        yield context
        nursery.cancel_scope.cancel()


async def test_tls_is_1_2_or_later_and_http_1_1_only(authority: Authority) -> None:
    client = authority.client_context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    asking = await shake_hands(client, make_server_context(tls_of(authority)))
    assert asking.selected_alpn_protocol() == "http/1.1"
    assert make_server_context(tls_of(authority)).minimum_version == ssl.TLSVersion.TLSv1_2


async def test_a_renewed_certificate_is_served_without_a_restart(
    authority: Authority, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    (tmp_path / "new").mkdir()
    renewed = make_authority(tmp_path / "new")
    async with watching(authority) as context:
        with pytest.raises(BaseExceptionGroup):
            await shake_hands(renewed.client_context(), context)
        os.replace(renewed.chain, authority.chain)
        os.replace(renewed.key, authority.key)
        await trio.sleep(3 * LOOK_INTERVAL)
        await shake_hands(renewed.client_context(), context)


async def test_a_pair_that_does_not_fit_leaves_the_old_one_in_place(
    authority: Authority, tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "new").mkdir()
    renewed = make_authority(tmp_path / "new")
    async with watching(authority) as context:
        shutil.copy(renewed.key, authority.key)  # the certificate has not come yet
        await trio.sleep(5 * LOOK_INTERVAL)
        await shake_hands(authority.client_context(), context)
        assert [record.levelno for record in caplog.records] == [logging.ERROR]  # told once
        assert str(authority.key) in caplog.text
        authority.key.unlink()
        await trio.sleep(5 * LOOK_INTERVAL)
        await shake_hands(authority.client_context(), context)
