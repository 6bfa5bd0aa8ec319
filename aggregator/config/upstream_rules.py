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

# How a person's own account is connected: of no use where there are no such accounts.
ACCOUNT_KEYS = (
    "clientId clientSecret scopes authorizationServer authorizationParams sendResource callbackPath allowPrivateNetwork"
).split()
KEYS_OF_TYPE = {"bearer": ("token",), "header": ("header", "value")}


def broken_upstream_rules(root: Mapping[str, Any]) -> Found:
    """Every rule that the upstreams of `root` break, with the path of the value to change."""
    upstreams = root.get("upstreams")
    if not isinstance(upstreams, list):
        return
    yield from _names(upstreams)
    yield from _callbacks(upstreams)
    for index, upstream in enumerate(upstreams):
        if isinstance(upstream, dict):
            path: Path = ("upstreams", index)
            yield from _authorization(path, upstream)
            yield from _headers(path, upstream)
            yield from _account(path, upstream)


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


def _type(upstream: Mapping[str, Any]) -> tuple[str | None, str]:
    """The type of authorisation, None if it is not a known one, and how a message says it."""
    auth = upstream.get("auth", {})
    if not isinstance(auth, dict):
        return None, ""
    kind = auth.get("type", "user")
    told = f"auth.type is '{kind}'" if "type" in auth else "auth.type is 'user', the default"
    return (str(kind), told) if isinstance(kind, str) and kind in AUTH_TYPES else (None, "")


def _authorization(path: Path, upstream: Mapping[str, Any]) -> Found:
    kind, told = _type(upstream)
    if kind is None:
        return
    auth = upstream.get("auth", {})
    for other, keys in KEYS_OF_TYPE.items():
        for key in keys:
            if kind == other and key not in auth:
                yield (*path, "auth", key), Wrong(f"is missing; type '{kind}' sends it")
            elif kind != other and key in auth:
                remedy = f"write 'type: {other}'" if "type" not in auth else "remove one of them"
                yield (*path, "auth", key), Misplaced(f"is for type '{other}', and {told}; {remedy}")
    for key in ACCOUNT_KEYS:
        if kind != "user" and key in upstream:
            yield (*path, key), Misplaced(f"is for each person's own account (auth.type 'user'), and {told}; remove it")


def _headers(path: Path, upstream: Mapping[str, Any]) -> Found:
    headers = upstream.get("headers")
    if not isinstance(headers, dict):
        return
    kind, told = _type(upstream)
    auth = upstream.get("auth", {})
    sent = auth.get("header") if kind == "header" else None
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
        elif plain == "authorization" and kind == "bearer":
            yield here, Misplaced("carries auth.token already; remove one of them")
        elif plain == "cookie" and kind == "user":
            yield here, Misplaced(f"would log everybody in as one beside their own tokens, as {told}; remove it")
        seen.setdefault(plain, name)


def _account(path: Path, upstream: Mapping[str, Any]) -> Found:
    if _type(upstream)[0] != "user":
        return
    if "clientSecret" in upstream and "clientId" not in upstream:
        yield (*path, "clientSecret"), Misplaced("is the secret of a 'clientId', which is missing; give both or none")
    server = upstream.get("authorizationServer")
    if is_plain_http(server) and not is_true(upstream.get("allowPrivateNetwork")):
        remedy = "use https, or set allowPrivateNetwork: true if the network between is yours"
        yield (
            (*path, "authorizationServer"),
            Wrong(f"{show_url(server)} is not https, and not on this machine; {remedy}"),
        )
