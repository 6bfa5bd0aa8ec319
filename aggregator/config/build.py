"""From validated keys to the frozen values: where a default depends on another key, and what one key becomes.

This file must not know texts, files or problems: nothing can be wrong any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .headers import BEARER
from .model import Account, Auth, Config, KnownClient, Limits, Secret, Tls, Tokens, ToolFilter, Upstream

if TYPE_CHECKING:
    from .upstream_keys import UpstreamKeys
    from .vocabulary import ClientKeys, File


def config_of(keys: File) -> Config:
    """The configuration that validated `keys` are."""
    auth, tokens, limits = keys.auth, keys.tokens, keys.limits
    return Config(
        auth=Auth(
            issuer=auth.issuer,
            client_id=auth.client_id,
            client_secret=auth.client_secret,
            scopes=tuple(auth.scopes),
            user_claim=auth.user_claim,
            allow=auth.allow,
            allow_http_issuer=auth.allow_http_issuer,
            relogin_after=auth.relogin_after,
        ),
        upstreams=tuple(_upstream(upstream, keys) for upstream in keys.upstreams),
        issuer_url=keys.issuer_url or f"{'https' if keys.tls else 'http'}://localhost:{keys.port}",
        storage=keys.storage,
        host=keys.host,
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
        ca_file=keys.outbound.ca_file,
        proxy=keys.outbound.proxy,
        tls=Tls(keys.tls.cert_file, keys.tls.key_file) if keys.tls else None,
    )


def _client(keys: ClientKeys) -> KnownClient:
    return KnownClient(keys.client_id, keys.name or keys.client_id, tuple(keys.redirect_uris), keys.client_secret)


def _upstream(keys: UpstreamKeys, top: File) -> Upstream:
    return Upstream(
        name=keys.name,
        url=keys.url,
        prefix=keys.name if keys.prefix is None else keys.prefix,
        display_name=keys.display_name,
        description=keys.description,
        enabled=keys.enabled,
        auth_type=keys.auth.type,
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
        instructions=keys.instructions,
        tools=ToolFilter(tuple(keys.tools.include), tuple(keys.tools.exclude)),
        discovery_timeout=top.discovery_timeout if keys.discovery_timeout is None else keys.discovery_timeout,
        tool_timeout=top.tool_timeout if keys.tool_timeout is None else keys.tool_timeout,
    )


def _headers(keys: UpstreamKeys) -> Iterator[tuple[str, Secret]]:
    yield from keys.headers.items()
    auth = keys.auth
    if auth.token is not None:
        yield "Authorization", auth.token.after(BEARER)
    if auth.header is not None and auth.value is not None:
        yield auth.header, auth.value
