"""From validated keys to the frozen values: where a default depends on another key, and what one key becomes.

This file must not know texts, files or problems: nothing can be wrong any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..errors import Problem
from .headers import BEARER
from .model import (
    Account,
    AnyConfig,
    AnyUpstream,
    Auth,
    BrowserLogin,
    Config,
    KnownClient,
    Limits,
    Listen,
    LocalConfig,
    Secret,
    StdioUpstream,
    Tls,
    TokenCommand,
    Tokens,
    ToolFilter,
    Upstream,
)

if TYPE_CHECKING:
    from .upstream_keys import UpstreamAuthKeys, UpstreamKeys
    from .vocabulary import AuthKeys, ClientKeys, File


def config_of(keys: File, environ: Mapping[str, str]) -> AnyConfig:
    """The configuration that validated `keys` are: a `Servable` if it can be served."""
    tokens, limits, local = keys.tokens, keys.limits, keys.auth is None
    config = AnyConfig(
        auth=None if keys.auth is None else _auth(keys.auth),
        upstreams=tuple(_upstream(upstream, keys) for upstream in keys.upstreams),
        issuer_url=keys.issuer_url or _own_url(keys),
        storage=keys.storage or (local_storage(environ) if local else "memory"),
        host=keys.host or ("127.0.0.1" if local else "0.0.0.0"),  # noqa: S104  a container's port must be reachable
        port=keys.port,
        allowed_origins=tuple(keys.allowed_origins),
        allowed_hosts=tuple(keys.allowed_hosts),
        secret=keys.secret[0] if keys.secret else None,
        other_secrets=tuple(keys.secret[1:]) if keys.secret else (),
        discovery_timeout=keys.discovery_timeout,
        tool_timeout=keys.tool_timeout,
        input_timeout=keys.input_timeout,
        drain=keys.drain,
        tokens=Tokens(tokens.access, tokens.refresh, tokens.refresh_idle, tokens.code),
        limits=Limits(limits.body, limits.name_length, limits.calls_per_person),
        clients=tuple(_client(client) for client in keys.clients),
        client_schemes=tuple(keys.client_schemes),
        client_documents=keys.client_documents,
        ca_file=keys.outbound.ca_file,
        proxy=keys.outbound.proxy,
        tls=Tls(keys.tls.cert_file, keys.tls.key_file) if keys.tls else None,
        listen=Listen(
            transport=keys.listen.transport,
            socket=keys.socket,
            token=keys.listen.token,
            allow_unauthenticated=keys.listen.allow_unauthenticated,
        ),
    )
    return served(config)


def served(config: AnyConfig) -> AnyConfig:
    """`config` as a `Servable`, if it can be served."""
    if any(not_yet_served(config)):
        return config
    settings = {each.name: getattr(config, each.name) for each in fields(config)}
    return LocalConfig(**settings) if config.auth is None else Config(**settings)


def not_yet_served(config: AnyConfig) -> Iterator[Problem]:
    """What `config` asks for that cannot be served yet."""
    for index, upstream in enumerate(config.upstreams):
        if upstream.enabled and upstream.auth_type == "oauth":
            here = f"upstreams[{index}].auth"
            if config.auth is not None:
                told = "'oauth' with 'auth' (one account for everybody) is not available yet"
                yield Problem(f"{here}.type", f"{told}; use 'bearer', 'header' or 'command'")


def local_storage(environ: Mapping[str, str]) -> str:
    """Where local mode remembers what outlives a restart: below the person's state directory, if they have one."""
    base = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        # XDG Base Directory 0.8: "If $XDG_STATE_HOME is either not set or empty, a default equal to
        # $HOME/.local/state should be used."
        home = environ.get("HOME", "")
        if not os.path.isabs(home):
            return "memory"
        base = os.path.join(home, ".local/state")
    return os.path.join(base, "mcp-aggregator/local.sqlite")


def _own_url(keys: File) -> str:
    return "http://localhost" if keys.socket else f"{'https' if keys.tls else 'http'}://localhost:{keys.port}"


def _auth(keys: AuthKeys) -> Auth:
    return Auth(
        issuer=keys.issuer,
        client_id=keys.client_id,
        client_secret=keys.client_secret,
        scopes=tuple(keys.scopes),
        user_claim=keys.user_claim,
        allow=keys.allow,
        allow_http_issuer=keys.allow_http_issuer,
        relogin_after=keys.relogin_after,
    )


def _client(keys: ClientKeys) -> KnownClient:
    return KnownClient(keys.client_id, keys.name or keys.client_id, tuple(keys.redirect_uris), keys.client_secret)


def _upstream(keys: UpstreamKeys, top: File) -> AnyUpstream:
    common: dict[str, Any] = {
        "name": keys.name,
        "prefix": keys.name if keys.prefix is None else keys.prefix,
        "display_name": keys.display_name,
        "description": keys.description,
        "enabled": keys.enabled,
        "tools": ToolFilter(tuple(keys.tools.include), tuple(keys.tools.exclude)),
        "instructions": keys.instructions,
        "discovery_timeout": top.discovery_timeout if keys.discovery_timeout is None else keys.discovery_timeout,
        "tool_timeout": top.tool_timeout if keys.tool_timeout is None else keys.tool_timeout,
    }
    if keys.url is None:
        assert keys.command is not None  # `upstream_rules`
        return StdioUpstream(
            **common,
            command=keys.command,
            env=keys.env,
            cwd=keys.cwd,
            start_on_use=keys.start_on_use,
            idle_stop=keys.idle_stop,
        )
    kind = keys.auth.type or ("oauth" if top.auth is None else "user")
    return Upstream(
        **common,
        url=keys.url,
        auth_type=kind,
        headers=tuple(_headers(keys)),
        account=Account(
            client_id=keys.client_id,
            client_secret=keys.client_secret,
            scopes=None if keys.scopes is None else tuple(keys.scopes),
            authorization_server=keys.authorization_server,
            authorization_params=keys.authorization_params,
            send_resource=keys.send_resource,
            callback_path=keys.callback_path,
            allow_private_network=keys.allow_private_network,
        ),
        token_command=None if keys.auth.command is None else TokenCommand(keys.auth.command, keys.auth.ttl),
        browser_login=_browser_login(keys.auth) if kind == "oauth" else None,
    )


def _browser_login(keys: UpstreamAuthKeys) -> BrowserLogin:
    return BrowserLogin(
        client_name=keys.client_name,
        client_id_command=keys.client_id_command or (),
        client_secret_command=keys.client_secret_command or (),
        callback_port=keys.callback_port,
        open_browser=keys.open_browser,
        allow_issuer_mismatch=keys.allow_issuer_mismatch,
    )


def _headers(keys: UpstreamKeys) -> Iterator[tuple[str, Secret]]:
    yield from keys.headers.items()
    auth = keys.auth
    if auth.token is not None:
        yield "Authorization", auth.token.after(BEARER)
    if auth.header is not None and auth.value is not None:
        yield auth.header, auth.value
