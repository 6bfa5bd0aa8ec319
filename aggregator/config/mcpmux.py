"""Files of mcpmux: their keys, their rules, and what they mean here.

Such a file has `backends`. It is a configuration of local mode; its messages name its own keys. What mcpmux lets
pass without a word, such as an unknown key, is a warning. This file must not know positions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeVar

from ..errors import Problem
from .document import Document
from .door import read_listen_token
from .go import Variable
from .headers import BEARER, parse_header_name, read_bearer_token, read_header_value
from .kinds import parse_name
from .mask import mask_document
from .mcpmux_reader import Node, Reader, open_reader
from .model import (
    Account,
    AnyConfig,
    AnyUpstream,
    BrowserLogin,
    ConnectRetry,
    Listen,
    Secret,
    StdioUpstream,
    TokenCommand,
    Upstream,
)
from .rules import OPENED, open_door
from .scalars import Wrong, show, whole
from .urls import is_host, is_loopback, parse_upstream_url
from .warn import exposed_credential

T = TypeVar("T")

TOP = ("listen", "backends", "eager_auth", "connect_retry", "token_store")
LISTEN = ("transport", "address", "path", "token", "allow_unauthenticated")  # the last two are ours
RETRY = ("enabled", "max_delay", "attempt_timeout")
STORE = ("enabled",)
BACKEND = ("name", "description", "transport", "command", "env", "endpoint", "auth")
AUTH = {
    "none": (),
    "bearer": ("token",),
    "header": ("header", "value"),
    "command": ("command", "ttl"),
    "oauth": (
        "scopes",
        "client_name",
        "callback_port",
        "open_browser",
        "client_id",
        "client_id_command",
        "client_secret",
        "client_secret_command",
        "allow_issuer_mismatch",
    ),
}
OF_TRANSPORT = {"command": ("command", "env"), "http": ("endpoint", "auth")}
# Keys whose values an excerpt may show; all others may hold a secret.
SHOWN = frozenset(
    "listen transport address path eager_auth connect_retry enabled max_delay attempt_timeout token_store backends "
    "name description endpoint auth type header ttl scopes client_name callback_port open_browser "
    "allow_issuer_mismatch allow_unauthenticated".split()
)

ADDRESS = "127.0.0.1:8080"
TTL = 300.0
# mcpmux waits for a call for ever, and so do its users' slow tools; ten minutes are enough for those and end a hang.
TOOL_TIMEOUT = 600.0

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_COMMENT = re.compile(r"(?:^|\s)#")


def is_mcpmux(document: Document) -> bool:
    """Whether this is a file of mcpmux. One that is not expanded yet need not be good YAML."""
    if document.broken:
        keys = re.findall(r"(?m)^(backends|upstreams)[ \t]*:", document.text)
        return "backends" in keys and "upstreams" not in keys
    return isinstance(document.root, dict) and "backends" in document.root and "upstreams" not in document.root


@dataclass(frozen=True, slots=True)
class Read:
    """The configuration that a file is, None if there are problems; what is said of it; its text without secrets."""

    config: AnyConfig | None
    problems: list[Problem]
    warnings: list[Problem]
    masked: str


def read_mcpmux(source: str, environ: Mapping[str, str], storage: str) -> Read:
    """Read `source`. `storage` is where logins are kept, unless the file says that they are not."""
    reader = open_reader(source, environ)
    config = None if reader.document.broken else _config(reader, storage)
    for name in dict.fromkeys(variable.name for variable in reader.expansion.variables):
        _warn_of_variable(reader, [each for each in reader.expansion.variables if each.name == name])
    masked = ""  # no excerpts, if positions do not lead back: a variable brought one of JSON's pairs of escapes
    if reader.document.text == reader.expansion.text:
        masked = mask_document(reader.document, shown=SHOWN, source=source, origin=reader.expansion.origin)
    return Read(None if reader.problems else config, reader.problems, reader.warnings, masked)


def _config(reader: Reader, storage: str) -> AnyConfig:
    top = Node(reader, (), reader.document.root, TOP)
    host, port, listen = _listen(top.child("listen", LISTEN))
    retry = top.child("connect_retry", RETRY)
    usual = ConnectRetry()
    backends = top.items("backends")
    if not backends:
        top.refuse("backends", "at least one backend is required")
    names: dict[str, int] = {}
    upstreams = [
        _backend(Node(reader, ("backends", number), each, BACKEND), number, names)
        for number, each in enumerate(backends)
    ]
    return AnyConfig(
        auth=None,
        upstreams=tuple(upstream for upstream in upstreams if upstream is not None),
        issuer_url=f"http://localhost:{port}",
        storage=storage if top.child("token_store", STORE).boolean("enabled", True) else "memory",
        host=host,
        port=port,
        tool_timeout=TOOL_TIMEOUT,
        listen=listen,
        connect_retry=ConnectRetry(
            enabled=retry.boolean("enabled", usual.enabled),
            max_delay=_positive(retry, "max_delay", usual.max_delay),
            attempt_timeout=_positive(retry, "attempt_timeout", usual.attempt_timeout),
        ),
        eager_auth=top.boolean("eager_auth", False),
    )


def _listen(node: Node) -> tuple[str, int, Listen]:
    """Host, port and front door."""
    transport = node.text("transport", "stdio")
    address, path = node.text("address", ADDRESS), node.text("path", "/mcp")
    token = _taken(node, "token", read_listen_token)
    allowed = node.boolean("allow_unauthenticated", False)
    found = _ADDRESS.fullmatch(address)
    host = "127.0.0.1" if found is None else found["six"] or found["host"] or "0.0.0.0"  # noqa: S104  as Go has it
    port = 8080 if found is None else int(found["port"])
    if transport not in ("stdio", "http"):
        node.refuse("transport", f"must be 'stdio' or 'http', got {show(transport)}")
    elif transport == "http":
        if found is None or port > 65535 or not is_host(host.lower()):
            node.refuse("address", f"{show(address)} is not an address; write one like '{ADDRESS}'")
        elif not is_loopback(host) and token is None and not allowed:
            node.refuse("address", open_door(show(address), "listen.token", "listen.allow_unauthenticated"))
        elif not is_loopback(host) and token is None:
            node.warn("address", OPENED)
        if not path.startswith("/"):
            node.refuse("path", f"must start with '/', got {show(path)}")
    return host, port, Listen(transport=transport, path=path, token=token, allow_unauthenticated=allowed)


def _backend(node: Node, number: int, names: dict[str, int]) -> AnyUpstream | None:
    name, transport = node.text("name"), node.text("transport")
    if not name:
        node.refuse("name", "is required")
    elif name in names:
        node.refuse("name", f"{show(name)} is the name of backends[{names[name]}] already")
    else:
        node.parsed("name", lambda _: parse_name(name), "")
    names.setdefault(name, number)
    common: dict[str, Any] = {
        "name": name,
        "prefix": name,
        "description": node.text("description") or None,
        "tool_timeout": TOOL_TIMEOUT,
    }
    if transport not in OF_TRANSPORT:
        got = f", got {show(transport)}" if transport else ""
        node.refuse("transport", f"must be 'command' or 'http'{got}")
        return None
    for other, keys in OF_TRANSPORT.items():
        for key in keys:
            if other != transport and key in node:
                node.warn(key, f"is for transport '{other}' and does nothing here", at_key=True)
    if transport == "command":
        command = node.texts("command")
        if not command:
            node.refuse("command", "is required for transport 'command'")
        return StdioUpstream(**common, command=command, env=dict(_environment(node.open_child("env"))))
    if not node.text("endpoint"):
        node.refuse("endpoint", "is required for transport 'http'")
    url = node.parsed("endpoint", parse_upstream_url, "") if node.text("endpoint") else ""
    upstream = _authorized(node, {**common, "url": url})
    if upstream is not None and (told := exposed_credential(upstream)):
        node.warn("endpoint", told)
    return upstream


def _authorized(backend: Node, common: Mapping[str, Any]) -> Upstream | None:
    node = backend.child("auth", ("type", *(key for keys in AUTH.values() for key in keys)))
    kind = node.text("type") or "none"
    if kind not in AUTH:
        known = ", ".join(f"'{each}'" for each in AUTH)
        node.refuse("type", f"{show(kind)} is unknown; expected one of {known}")
        return None
    for key in node:
        others = [other for other, keys in AUTH.items() if key in keys]
        if key != "type" and others and kind not in others:
            node.warn(key, f"is for auth.type '{others[0]}' and does nothing here", at_key=True)
    match kind:
        case "bearer":
            token = _taken(node, "token", read_bearer_token)
            if token is None:
                _warn_of_empty(node, "token")
            headers = () if token is None else (("Authorization", token.after(BEARER)),)
            return Upstream(**common, auth_type=kind, headers=headers)
        case "header":
            if not node.text("header"):
                node.refuse("header", "(the header's name) is required for auth.type 'header'")
                return None
            name, value = node.parsed("header", parse_header_name, ""), _taken(node, "value", read_header_value)
            if value is None:
                _warn_of_empty(node, "value")
            return Upstream(**common, auth_type=kind, headers=() if value is None else ((name, value),))
        case "command":
            command, ttl = node.texts("command"), node.duration("ttl", TTL)
            if not command:
                node.refuse("command", "is required for auth.type 'command'")
            return Upstream(**common, auth_type=kind, token_command=TokenCommand(command, ttl if ttl > 0 else TTL))
        case "oauth":
            return _logged_in_to(node, common)
    return Upstream(**common, auth_type=kind)


def _logged_in_to(node: Node, common: Mapping[str, Any]) -> Upstream:
    for key in ("client_id", "client_secret"):
        if node.text(key) and node.texts(f"{key}_command"):
            node.refuse(f"{key}_command", f"set only one of auth.{key} and auth.{key}_command", at_key=True)
    secret = node.text("client_secret")
    return Upstream(
        **common,
        auth_type="oauth",
        account=Account(client_id=node.text("client_id") or None, client_secret=Secret(secret) if secret else None),
        browser_login=BrowserLogin(
            client_name=node.text("client_name") or "mcpmux",
            client_id_command=node.texts("client_id_command"),
            client_secret_command=node.texts("client_secret_command"),
            scope_filter=node.texts("scopes"),
            callback_port=node.parsed("callback_port", whole(0, 65535, "port"), 0),
            open_browser=node.boolean("open_browser", True),
            allow_issuer_mismatch=node.boolean("allow_issuer_mismatch", False),
        ),
    )


def _environment(node: Node) -> Iterator[tuple[str, Secret]]:
    for name in node:
        if not name or "=" in name or "\0" in name:
            node.refuse(name, "is not the name of an environment variable", at_key=True)
        value = node.text(name)
        if "\0" in value:
            node.refuse(name, "holds a NUL, which ends an environment variable")
        yield name, Secret(str(value))


def _positive(node: Node, key: str, usual: float) -> float:
    seconds = node.duration(key, usual)
    if seconds > 0:
        return seconds
    node.refuse(key, f"must be positive, got {show(node.text(key))}")
    return usual


def _taken(node: Node, key: str, read: Callable[[Any, FilePath], Secret]) -> Secret | None:
    """A secret that stands in the file; None if it is absent or empty."""
    text = str(node.text(key))
    if not text:
        return None
    try:
        return read(text, FilePath())
    except Wrong as exc:
        node.refuse(key, exc)
        return None


def _warn_of_empty(node: Node, key: str) -> None:
    # An unset variable must not keep the other backends from starting: mcpmux allows it on purpose.
    node.warn(key, "is empty; requests go without it, and the backend will refuse them")


def _warn_of_variable(reader: Reader, found: list[Variable]) -> None:
    """Once for each that is not set and stands outside of comments."""
    source = reader.expansion.source
    for variable in found:
        line = source[source.rfind("\n", 0, variable.position) + 1 : variable.position]
        if variable.is_set or _COMMENT.search(line):
            continue
        name, _, default = variable.name.partition(":-")
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
            more = ", and files of mcpmux know no default" if default else ""
            told = f"the environment variable {name} is not set, so it is empty here{more}"
        else:
            told = "'$' begins the name of a variable here, which is empty; a '$' must itself come from a variable"
        reader.warn_at(variable.position, told)
        return
