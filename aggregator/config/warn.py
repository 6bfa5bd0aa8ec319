"""What is allowed but worth a word: settings that do less, or let in more, than their operator may think.

This file owns the warnings; it must not refuse anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import Problem
from .document import Document, Path
from .model import AnyConfig, Auth, StdioUpstream, Upstream
from .rules import OPENED
from .secrets import Passphrase, check_secret
from .urls import is_loopback, is_plain_http

_GOOGLE = "https://accounts.google.com"
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})  # headers that log somebody in
_FOR_A_SHELL = re.compile(r"~/|[^$]*\$[A-Za-z_]")  # what a shell would replace, at the beginning of a text or in it
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh"})
_NEW_SECRET = "make one with 'mcp-aggregator secret new'"  # noqa: S105  a remedy, not a secret


def warnings_for(config: AnyConfig, document: Document) -> Iterator[Problem]:
    """The warnings, each at the value that it is about."""
    if config.auth is None:
        yield from _local(config, document)
    else:
        yield from _login(config.auth, document)
    for index, upstream in enumerate(config.upstreams):
        if isinstance(upstream, Upstream) and (told := exposed_credential(upstream)):
            yield document.problem(("upstreams", index, "url"), told)
        if isinstance(upstream, StdioUpstream):
            yield from _for_a_shell(index, upstream, document)
    yield from _secret(config, document)


def exposed_credential(upstream: Upstream) -> str | None:
    """What to say of an address to which a configured credential goes readable to everybody on the way, if it does.

    Operators have networks of their own, so this is not refused; `allowPrivateNetwork` says so of one. Whether people's
    own tokens go there is known beforehand only where a client is configured for their logins.
    """
    if not upstream.enabled or not is_plain_http(upstream.url):
        return None
    named = [name for name, _ in upstream.headers if name.lower() in _CREDENTIALS]
    if upstream.auth_type in ("bearer", "header", "command"):
        what = f"the credential of auth.type '{upstream.auth_type}'"
    elif named:
        what = f"the header '{named[0]}'"
    elif upstream.account.client_id is not None and not upstream.account.allow_private_network:
        what = "every token of whoever logs in"
    else:
        return None
    return (
        f"is http, so {what} can be read and used by whoever sees the traffic; use https, unless the network is yours"
    )


def _for_a_shell(index: int, upstream: StdioUpstream, document: Document) -> Iterator[Problem]:
    """Texts of the file, as they are written, that are meant for a shell, where there is none."""
    told = "is handed over as it is, since no shell reads it; write ${NAME} for a variable, ${HOME} for ~"
    here: Path = ("upstreams", index)
    written = document.root["upstreams"][index]
    reads = upstream.command[0].rpartition("/")[2] in _SHELLS
    for number, item in enumerate(() if reads else written["command"]):
        if isinstance(item, str) and _FOR_A_SHELL.match(item):
            yield document.problem((*here, "command", number), told)
    for name, value in written.get("env", {}).items():
        if isinstance(value, str) and _FOR_A_SHELL.match(value):
            yield document.problem((*here, "env", name), told)


def _local(config: AnyConfig, document: Document) -> Iterator[Problem]:
    listen = config.listen
    if listen.transport == "http" and listen.socket is None and listen.token is None and not is_loopback(config.host):
        yield document.problem(("host",), OPENED)


def _login(auth: Auth, document: Document) -> Iterator[Problem]:
    issuer = auth.issuer
    if issuer.rstrip("/") == _GOOGLE and not auth.allow:
        yield document.problem(
            ("auth", "issuer"),
            "Google logs in every Google account there is; name your own in auth.allow, such as {hd: example.com}, "
            "unless the OAuth consent screen is set to 'Internal'",
        )
    if found := re.search(r"<[^<>]*>", issuer):
        yield document.problem(("auth", "issuer"), f"'{found[0]}' looks like a gap to fill in")


def _secret(config: AnyConfig, document: Document) -> Iterator[Problem]:
    if config.secret is None:
        if config.auth is None:
            return  # local mode keeps a key of its own
        tokens = (
            "" if config.storage == "memory" else f", and the upstream tokens in {config.storage} become unreadable"
        )
        yield Problem(
            "secret",
            "is absent, so each start makes a random one: a restart ends every login and every client's registration"
            f"{tokens}; {_NEW_SECRET}",
        )
    else:
        for number, secret in enumerate((config.secret, *config.other_secrets)):
            if isinstance(check_secret(secret.reveal()), Passphrase):
                path: Path = ("secret", number) if config.other_secrets else ("secret",)
                yield document.problem(
                    path, f"is a passphrase, weaker than a random key and slower to start with; {_NEW_SECRET}"
                )
