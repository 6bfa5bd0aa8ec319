"""What concerns several keys of an upstream at once, or several upstreams.

As in `rules`, these look at the values as written, so that they speak up beside any other problem. This file must not
know about positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .accounts import CALLBACKS
from .document import Path
from .kinds import AUTH_TYPES
from .scalars import Misplaced, Wrong, is_true
from .urls import is_plain_http, show_url

Found = Iterator[tuple[Path, Wrong]]

# How an account is connected: of no use where there is none.
ACCOUNT_KEYS = (
    "clientId clientSecret scopes authorizationServer authorizationParams sendResource callbackPath allowPrivateNetwork"
).split()
KEYS_OF_TYPE = {
    "bearer": ("token",),
    "header": ("header", "value"),
    "command": ("command", "ttl"),
    "oauth": (
        "clientName",
        "clientIdCommand",
        "clientSecretCommand",
        "callbackPort",
        "openBrowser",
        "allowIssuerMismatch",
    ),
}
NEEDED = {"bearer": ("token",), "header": ("header", "value"), "command": ("command",)}
COMMAND_KEYS = ("env", "cwd", "startOnUse", "idleStop")


def broken_upstream_rules(root: Mapping[str, Any]) -> Found:
    """Every rule that the upstreams of `root` break, with the path of the value to change."""
    upstreams = root.get("upstreams")
    if not isinstance(upstreams, list):
        return
    yield from _names(upstreams)
    yield from _callbacks(upstreams)
    usual = "user" if "auth" in root else "oauth"
    for index, upstream in enumerate(upstreams):
        if isinstance(upstream, dict):
            path: Path = ("upstreams", index)
            if "command" in upstream:
                yield from _command(path, upstream)
            else:
                yield from _over_http(path, upstream, usual)


def _names(upstreams: list[Any]) -> Found:
    names: dict[str, int] = {}
    prefixes: dict[str, int] = {}
    for index, upstream in enumerate(upstreams):
        if not isinstance(upstream, dict):
            continue
        name, prefix = upstream.get("name"), upstream.get("prefix", upstream.get("name"))
        if isinstance(name, str):
            if name in names:
                yield ("upstreams", index, "name"), Wrong(f"'{name}' is the name of upstreams[{names[name]}] already")
                prefix = upstream.get("prefix")  # one report is enough where the prefix is the name
            names.setdefault(name, index)
        if isinstance(prefix, str):
            if prefix in prefixes:
                key = "prefix" if "prefix" in upstream else "name"
                other = f"the prefix of upstreams[{prefixes[prefix]}]"
                told = f"'{prefix}' is {other} already" if prefix else f"'' is {other} already; one may have none"
                yield ("upstreams", index, key), Wrong(told)
            prefixes.setdefault(prefix, index)


def _callbacks(upstreams: list[Any]) -> Found:
    """A path may be shared by several upstreams, but not one that bears the name of another."""
    names = {each.get("name"): index for index, each in reversed([*enumerate(upstreams)]) if isinstance(each, dict)}
    for index, upstream in enumerate(upstreams):
        path = upstream.get("callbackPath") if isinstance(upstream, dict) else None
        if not isinstance(path, str) or not path.startswith(f"{CALLBACKS}/"):
            continue
        other = names.get(path.removeprefix(f"{CALLBACKS}/").rstrip("/"))
        if other is not None and other != index:
            told = f"'{path}' bears the name of upstreams[{other}]; use '{CALLBACKS}', which upstreams may share"
            yield ("upstreams", index, "callbackPath"), Wrong(told)


def _command(path: Path, upstream: Mapping[str, Any]) -> Found:
    if "url" in upstream:
        yield (*path, "command"), Misplaced("stands beside 'url'; an upstream is one or the other, remove one of them")
        return
    for key in ("auth", "headers", *ACCOUNT_KEYS):
        if key in upstream:
            yield (*path, key), Misplaced("is for an upstream with 'url'; a command gets its credentials by 'env'")


def _over_http(path: Path, upstream: Mapping[str, Any], usual: str) -> Found:
    if "url" not in upstream:
        yield (*path, "url"), Wrong("is missing; give it, or 'command' to start the server here")
    for key in COMMAND_KEYS:
        if key in upstream:
            yield (*path, key), Misplaced("is for an upstream with 'command'; remove it")
    auth = upstream.get("auth", {})
    kind = auth.get("type", usual) if isinstance(auth, dict) else None
    if not isinstance(kind, str) or kind not in AUTH_TYPES:
        return  # refused already
    told = f"auth.type is '{kind}'" + ("" if "type" in auth else ", the default")
    if kind == "user" and usual != "user":
        told = "'user' is for teams, and there is no 'auth' at the top; local mode has one person, use 'oauth'"
        yield (*path, "auth", "type"), Wrong(told)
        return
    yield from _authorization(path, auth, kind, told)
    yield from _headers(path, upstream, kind, told)
    yield from _account(path, upstream, kind, told)


def _authorization(path: Path, auth: Mapping[str, Any], kind: str, told: str) -> Found:
    for key in NEEDED.get(kind, ()):
        if key not in auth:
            yield (*path, "auth", key), Wrong(f"is missing; type '{kind}' needs it")
    for other, keys in KEYS_OF_TYPE.items():
        for key in keys:
            if kind != other and key in auth:
                remedy = "remove one of them" if "type" in auth else f"write 'type: {other}'"
                yield (*path, "auth", key), Misplaced(f"is for type '{other}', and {told}; {remedy}")


def _headers(path: Path, upstream: Mapping[str, Any], kind: str, told: str) -> Found:
    headers = upstream.get("headers")
    if not isinstance(headers, dict):
        return
    sent = upstream["auth"].get("header") if kind == "header" else None
    seen: dict[str, str] = {}
    for name in headers:
        here = (*path, "headers", name)
        plain = name.lower()
        if plain in seen:
            yield here, Misplaced(f"is '{seen[plain]}' once more; upper and lower case are the same here")
        elif isinstance(sent, str) and plain == sent.lower():
            yield here, Misplaced("is auth.header already; remove one of them")
        elif plain == "authorization" and kind == "user":
            yield here, Misplaced(f"carries each person's own token, as {told}; remove it, or use type 'header'")
        elif plain == "authorization" and kind not in ("none", "header"):
            yield here, Misplaced(f"carries the token, as {told}; remove one of them")
        elif plain == "cookie" and kind == "user":
            yield here, Misplaced(f"would log everybody in as one beside their own tokens, as {told}; remove it")
        seen.setdefault(plain, name)


def _account(path: Path, upstream: Mapping[str, Any], kind: str, told: str) -> Found:
    if kind not in ("user", "oauth"):
        for key in ACCOUNT_KEYS:
            if key in upstream:
                yield (
                    (*path, key),
                    Misplaced(f"is for an account that somebody logs in to (auth.type 'user'), and {told}; remove it"),
                )
        return
    auth = upstream.get("auth", {})
    if kind == "oauth" and "callbackPath" in upstream:
        yield (*path, "callbackPath"), Misplaced(f"is for auth.type 'user', and {told}; use auth.callbackPort")
    for key, command in (("clientId", "clientIdCommand"), ("clientSecret", "clientSecretCommand")):
        if key in upstream and command in auth:
            yield (*path, "auth", command), Misplaced(f"stands beside '{key}'; give only one of them")
    if "clientId" not in upstream and "clientIdCommand" not in auth:
        for here in ((*path, "clientSecret"), (*path, "auth", "clientSecretCommand")):
            if here[-1] in (auth if here[-2] == "auth" else upstream):
                yield here, Misplaced("is the secret of a 'clientId', which is missing; give both or none")
    server = upstream.get("authorizationServer")
    if is_plain_http(server) and not is_true(upstream.get("allowPrivateNetwork")):
        remedy = "use https, or set allowPrivateNetwork: true if the network between is yours"
        yield (
            (*path, "authorizationServer"),
            Wrong(f"{show_url(server)} is not https, and not on this machine; {remedy}"),
        )
