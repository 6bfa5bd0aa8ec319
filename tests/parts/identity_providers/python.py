"""Three identity providers from PyPI, in an environment of their own: canaille, nanoidp, oidc-provider-mock."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..install import identity_provider_program
from ..processes import free_port, open_process
from .provider import Provider

HERE = Path(__file__).parent
# Letters and digits only: canaille and nanoidp do not decode the halves of HTTP Basic as RFC 6749 2.3.1 has it.
SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"
PASSWORD = "correct horse battery"


@asynccontextmanager
async def open_canaille(redirect_uri: str) -> AsyncIterator[Provider]:
    """RS512 (its discovery lists RS256 first), ``aud`` a list, a login of two pages; addresses are never verified."""
    port = free_port()
    options = {"port": port, "redirectUris": [redirect_uri], "secret": SECRET, "password": PASSWORD}
    command = [str(identity_provider_program("python")), str(HERE / "canaille_op.py"), json.dumps(options)]
    async with open_process("canaille", command) as process:
        issuer = (await process.wait_output(r"issuer (\S+)"))[1]
        await process.wait_listening(port)
        yield Provider(issuer, "aggregator", SECRET, password=PASSWORD)


@asynccontextmanager
async def open_nanoidp(redirect_uri: str) -> AsyncIterator[Provider]:
    """No ``iss`` in the callback; ID tokens with ``sub`` alone: address and groups stand in userinfo."""
    port = free_port()
    client = {"client_id": "aggregator", "client_secret": SECRET, "redirect_uris": [redirect_uri]}
    settings: dict[str, object] = {
        "config_version": 1,
        "server": {"host": "127.0.0.1", "port": port},
        "oauth": {"issuer": f"http://127.0.0.1:{port}", "audience": "aggregator", "clients": [client]},
    }
    alice = {"password": PASSWORD, "email": "alice@example.test", "groups": ["eng"]}
    users = {"config_version": 1, "users": {"alice": alice}}
    with TemporaryDirectory() as folder:
        settings["jwt"] = {"keys_dir": f"{folder}/keys"}  # else below whatever folder the tests are run in
        (Path(folder) / "settings.yaml").write_text(json.dumps(settings))  # JSON is YAML
        (Path(folder) / "users.yaml").write_text(json.dumps(users))
        async with open_process("nanoidp", [str(identity_provider_program("nanoidp")), "--config", folder]) as process:
            await process.wait_listening(port)
            yield Provider(f"http://127.0.0.1:{port}", "aggregator", SECRET, password=PASSWORD)


@asynccontextmanager
async def open_mock(redirect_uri: str) -> AsyncIterator[Provider]:
    """ID tokens without ``kid``; metadata without ``*_methods_supported``; any client, redirect URI and person."""
    port = free_port()
    alice = {"sub": "alice", "email": "alice@example.test", "email_verified": True, "groups": ["eng"]}
    program = str(identity_provider_program("oidc-provider-mock"))
    command = [program, "--port", str(port), "--user-claims", json.dumps(alice)]
    async with open_process("oidc-provider-mock", command) as process:
        await process.wait_listening(port)
        yield Provider(f"http://127.0.0.1:{port}", "aggregator", SECRET)
