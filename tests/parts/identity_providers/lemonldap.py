"""Debian's LemonLDAP::NG: no ``iss`` in the callback, ``aud`` a list, a token endpoint that refuses its own cookie.

The portal runs on Starman over files of a scratch folder, with the accounts of
its demonstration: dwho and others, each with the name as password.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from joserfc.jwk import RSAKey

from ..install import debian_program
from ..processes import free_port, open_process
from .provider import Provider

SHIPPED = Path("/var/lib/lemonldap-ng/conf/lmConf-1.json")
SETTINGS = Path("/etc/lemonldap-ng/lemonldap-ng.ini")
PORTAL = Path("/usr/share/lemonldap-ng/portal/htdocs/index.psgi")
# Only recommended by the portal, but it answers 500 "Initialization failed" without any of them.
PERL = (
    "libgd-securityimage-perl libimage-magick-perl libstring-random-perl libconvert-base32-perl libio-string-perl "
    "libipc-run-perl libmime-tools-perl libunicode-string-perl libemail-sender-perl libemail-mime-perl "
    "libnet-ldap-perl libio-socket-timeout-perl libxml-simple-perl libsoap-lite-perl libxml-libxml-perl libjson-perl"
).split()
SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"


@asynccontextmanager
async def open_lemonldap(redirect_uri: str) -> AsyncIterator[Provider]:
    """RS256; a login page, a page of information, a consent page; names and address stand in userinfo only."""
    packages = ("starman", "liblemonldap-ng-portal-perl", "liblemonldap-ng-manager-perl", *PERL)
    starman = debian_program("starman", *packages)
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    with TemporaryDirectory() as folder:
        settings = _prepare(Path(folder), issuer, redirect_uri)
        command = [str(starman), "--workers", "2", "--listen", f"127.0.0.1:{port}", str(PORTAL)]
        environment = {"LLNG_DEFAULTCONFFILE": str(settings)}
        async with open_process("LemonLDAP::NG", command, env=environment) as process:
            await process.wait_listening(port)
            yield Provider(issuer, "aggregator", SECRET, user="dwho", password="dwho")


def _prepare(folder: Path, issuer: str, redirect_uri: str) -> Path:
    """The package's configuration, changed and moved into `folder`."""
    for part in ("conf", "sessions/lock", "psessions/lock", "cache"):
        (folder / part).mkdir(parents=True)
    configuration = {**json.loads(SHIPPED.read_text()), **_changes(issuer, redirect_uri, folder)}
    # A setting that is there and empty is not the default.
    configuration = {name: value for name, value in configuration.items() if value != ""}
    (folder / "conf" / "lmConf-1.json").write_text(json.dumps(configuration))
    text = SETTINGS.read_text().replace(str(SHIPPED.parent), str(folder / "conf"))
    settings = folder / "lemonldap-ng.ini"
    settings.write_text(text.replace("/var/lib/lemonldap-ng/cache", str(folder / "cache")))
    return settings


def _changes(issuer: str, redirect_uri: str, folder: Path) -> dict[str, Any]:
    """What differs from the configuration that the package ships."""
    key = RSAKey.generate_key(2048)
    client = {
        "ClientID": "aggregator",
        "ClientSecret": SECRET,
        "DisplayName": "aggregator",
        "RedirectUris": redirect_uri,
        "IDTokenSignAlg": "RS256",
        "UserIDAttr": "uid",
        "BypassConsent": 0,
    }
    return {
        "cfgNum": 1,
        "domain": "127.0.0.1",
        "portal": f"{issuer}/",
        "securedCookie": 0,
        "requireToken": 0,
        "authentication": "Demo",
        "userDB": "Same",
        "passwordDB": "Demo",
        "registerDB": "Demo",
        "cspFormAction": "*",
        "captcha_login_enabled": 0,
        "portalDisplayRegister": 0,
        **{f"{kind}Storage": "Apache::Session::File" for kind in ("global", "persistent")},
        "globalStorageOptions": {"Directory": f"{folder}/sessions", "LockDirectory": f"{folder}/sessions/lock"},
        "persistentStorageOptions": {"Directory": f"{folder}/psessions", "LockDirectory": f"{folder}/psessions/lock"},
        "issuerDBOpenIDConnectActivation": 1,
        "issuerDBOpenIDConnectRule": 1,
        "issuerDBOpenIDConnectPath": "^/oauth2/",
        "oidcServiceMetaDataIssuer": issuer,
        "oidcServiceMetaDataAuthorizeURI": "authorize",
        "oidcServiceMetaDataTokenURI": "token",
        "oidcServicePrivateKeySig": key.as_pem(private=True).decode(),
        "oidcServicePublicKeySig": key.as_pem(private=False).decode(),
        "oidcServiceKeyIdSig": "k1",
        "oidcServiceAllowAuthorizationCodeFlow": 1,
        "oidcRPMetaDataExportedVars": {"aggregator": {"email": "mail", "name": "cn", "preferred_username": "uid"}},
        "oidcRPMetaDataOptions": {
            "aggregator": {f"oidcRPMetaDataOptions{name}": value for name, value in client.items()}
        },
        "oidcRPMetaDataScopeRules": {"aggregator": {}},
        "oidcRPMetaDataMacros": {"aggregator": {}},
    }
