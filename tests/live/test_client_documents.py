"""Clients that do not register, with real SDKs: a metadata document on an https server, and the configuration."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from aggregator.config.model import KnownClient
from tests.fakes.https import make_authority, open_https_server
from tests.parts.scripted_clients import Kind, run_client
from tests.parts.servers import open_everything

from .deployment import open_deployment

pytestmark = pytest.mark.live

CALLBACKS = ["http://127.0.0.1/callback", "http://localhost/callback", "cursor://x/callback"]


@pytest.mark.requirement("CI1", "CI2", "MD2")
async def test_real_clients_log_in_as_the_client_of_a_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The deployment is on loopback, so the document may be, too; its certificate is checked all the same."""
    authority = make_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.authority))
    caplog.set_level(logging.INFO)
    pages: list[str] = []
    async with (
        open_everything() as everything,
        open_https_server(authority) as server,
        open_deployment({"everything": everything}) as deployment,
    ):
        url = f"https://localhost:{server.port}/oauth/id.json"
        document = {"client_id": url, "client_name": "Documented", "redirect_uris": CALLBACKS}
        server.answer(json.dumps(document).encode())
        kinds: tuple[Kind, ...] = ("python1", "python2", "typescript1", "typescript2")
        for kind in kinds:
            run = await run_client(
                kind,
                deployment.mcp,
                tool="everything__echo",
                arguments={"message": "hello"},
                metadata_url=url,
                state=tmp_path / kind,
                on_page=lambda _, page: pages.append(page),
            )
            assert run.authorized
            assert "everything__get-sum" in run.tools, run.output
        # Refreshed tokens and the token endpoint need no document: it is read once for each login.
        assert len(server.requests) == len(kinds)
        consents = [page for page in pages if "Allow access?" in page]
        assert len(consents) == len(kinds)
        for page in consents:
            assert f"<strong>localhost:{server.port}</strong>" in page
            assert "Documented" in page


async def test_a_real_client_logs_in_as_a_client_of_the_configuration(tmp_path: Path) -> None:
    known = KnownClient("desktop", "Desktop of the team", ("http://127.0.0.1/callback",))
    (tmp_path / "state").write_text(json.dumps({"client": {"client_id": "desktop", "redirect_uris": CALLBACKS[:1]}}))
    pages: list[str] = []
    async with (
        open_everything() as everything,
        open_deployment({"everything": everything}, clients=(known,)) as running,
    ):
        run = await run_client(
            "python2",
            running.mcp,
            tool="everything__echo",
            arguments={"message": "hello"},
            state=tmp_path / "state",
            on_page=lambda _, page: pages.append(page),
        )
    assert run.authorized
    assert any("Desktop of the team" in page for page in pages)
