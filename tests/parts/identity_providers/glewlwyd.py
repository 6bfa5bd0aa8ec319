"""Debian's glewlwyd: a path issuer, subjects of 32 random characters, pages that are scripts.

It keeps everything in one SQLite file and is set up through its own API, as its
administrator's page does it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2
from joserfc.jwk import RSAKey

from ..browser import open_browser
from ..install import debian_program
from ..processes import free_port, open_process
from .provider import Provider

SCHEMA = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
MODULES = Path("/usr/lib/glewlwyd")
# Without an answer the package's own set-up fails: it insists on a database.
ANSWERS = (
    "glewlwyd glewlwyd/dbconfig-install boolean true",
    "glewlwyd glewlwyd/database-type select sqlite3",
)
SECRET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
PASSWORD: Final = "correct horse battery"
SCOPES = ("openid", "email", "profile")


@asynccontextmanager
async def open_glewlwyd(redirect_uri: str) -> AsyncIterator[Provider]:
    """RS256, PKCE with S256 only, ``iss`` in the callback; discovery only below the issuer."""
    program = debian_program("glewlwyd", "glewlwyd", "dbconfig-sqlite3", "sqlite3", answers=ANSWERS)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with TemporaryDirectory() as folder:
        settings = _prepare(Path(folder), port)
        async with open_process("glewlwyd", [str(program), f"--config-file={settings}"]) as process:
            await process.wait_listening(port)
            async with httpx2.AsyncClient(base_url=f"{url}/api/", trust_env=False, timeout=20) as administrator:
                await _set_up(administrator, f"{url}/api/oidc", redirect_uri)
            yield Provider(f"{url}/api/oidc", "aggregator", SECRET, password=PASSWORD, browser=_open_scripted_browser)


def _prepare(folder: Path, port: int) -> Path:
    """An empty database, and the configuration file that names it."""
    database, settings = folder / "store.sqlite", folder / "glewlwyd.conf"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(SCHEMA.read_text())
    modules = {"user": "user", "client": "client", "user_auth_scheme": "scheme", "plugin": "plugin"}
    texts = {
        "bind_address": "127.0.0.1",
        "external_url": f"http://127.0.0.1:{port}",
        "login_url": "login.html",
        "api_prefix": "api",
        "log_mode": "console",
        "log_level": "WARNING",
        "cookie_same_site": "empty",
        "session_key": "GLEWLWYD2_SESSION_ID",
        "admin_session_authentication": "cookie",
        "profile_session_authentication": "cookie",
        "admin_scope": "g_admin",
        "profile_scope": "g_profile",
        "hash_algorithm": "SHA512",
        "static_files_path": "/usr/share/glewlwyd/webapp/",
        **{f"{kind}_module_path": str(MODULES / folder) for kind, folder in modules.items()},
    }
    lines = [f"port={port}", "session_expiration=3600", "login_api_enabled=true"]
    lines += [f'{name}="{value}"' for name, value in texts.items()]
    lines.append(f'database = {{ type = "sqlite3" path = "{database}" }};')
    lines.append('static_files_mime_types = ( { extension = ".html" mime_type = "text/html" } )')
    settings.write_text("\n".join(lines) + "\n")
    return settings


async def _set_up(administrator: httpx2.AsyncClient, issuer: str, redirect_uri: str) -> None:
    async def add(path: str, **fields: Any) -> None:
        answer = await administrator.post(path, json=fields)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"

    await add("auth/", username="admin", password="password")  # what the package's schema says
    for scope in SCOPES[1:]:
        await add("scope/", name=scope, display_name=scope, password_required=True, password_max_age=0, scheme={})
    key = RSAKey.generate_key(2048)
    await add(
        "mod/plugin/",
        module="oidc",
        name="oidc",
        display_name="oidc",
        parameters={
            "iss": issuer,
            "jwt-type": "rsa",
            "jwt-key-size": "256",
            "jwks-show": True,
            "default-kid": "k1",
            "key": key.as_pem(private=True).decode(),
            "cert": key.as_pem(private=False).decode(),
            "access-token-duration": 3600,
            "refresh-token-duration": 86400,
            "code-duration": 600,
            **{f"auth-type-{kind}-enabled": kind in ("code", "refresh") for kind in _FLOWS},
            "pkce-allowed": True,
            "pkce-method-plain-allowed": False,
            "oauth-as-iss-id": True,
            "email-claim": "on-demand",
            "email-claim-scope": ["email"],
            "name-claim": "on-demand",
            "name-claim-scope": ["profile"],
            "subject-type": "public",
            "allow-non-oidc": True,
            "scope-claim": "no",
            "address-claim": {"type": "no"},
            "scope": [],
            "additional-parameters": [],
            "claims": [],
        },
    )
    await add(
        "user/",
        username="alice",
        password=PASSWORD,
        name="Alice",
        email="alice@example.test",
        enabled=True,
        scope=[*SCOPES, "g_profile"],
    )
    await add(
        "client/",
        client_id="aggregator",
        name="aggregator",
        confidential=True,
        enabled=True,
        client_secret=SECRET,
        token_endpoint_auth_method=["client_secret_basic"],
        redirect_uri=[redirect_uri],
        authorization_type=["code", "refresh_token"],
        scope=[],
    )


_FLOWS = ("code", "token", "id-token", "none", "password", "client", "device", "refresh")


def _open_scripted_browser() -> httpx2.AsyncClient:
    """A browser that does what the scripts of the login page do: ask the API to log in and to grant, then go back."""
    browser = open_browser()

    async def run_scripts(response: httpx2.Response) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(str(response.url)).query).items()}
        if response.url.path != "/login.html" or "callback_url" not in asked:
            return
        api = response.url.join("/api/auth/")
        login = await browser.post(api, json={"username": "alice", "password": PASSWORD})
        grant = await browser.put(api.join(f"grant/{asked['client_id']}"), json={"scope": asked["scope"]})
        assert (login.status_code, grant.status_code) == (200, 200)
        response.status_code = 303
        response.headers["location"] = asked["callback_url"] + "&g_continue"

    browser.event_hooks = {"response": [run_scripts]}
    return browser
