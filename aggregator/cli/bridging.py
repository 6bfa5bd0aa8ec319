"""`stdio`: what a client starts that speaks MCP over stdio only. It imports what it needs inside its body."""

from __future__ import annotations

import sys

import click

from .loading import EX_CONFIG, config_option, load_or_exit, log_level_option


@click.command()
@config_option
@click.option("--endpoint", metavar="URL", help="The server's MCP endpoint; default: that of the configuration.")
@click.option("--socket", metavar="PATH", help="The server's Unix socket, instead.")
@click.option(
    "--token",
    metavar="TOKEN",
    envvar="MCP_AGGREGATOR_TOKEN",
    show_envvar=True,
    help="Bearer token to show there; better given by the environment, which other users cannot see.",
)
@log_level_option("warning")
def stdio(config: str | None, endpoint: str | None, socket: str | None, token: str | None, log_level: str) -> None:
    """Connect a client over stdio to a running server.

    For one that speaks MCP over stdio only. Such a client starts this command itself. It passes everything on, waits
    for a server that restarts, and ends when its input does.
    """
    if endpoint is not None and socket is not None:
        raise click.UsageError("--endpoint and --socket are two places; give one.")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise click.BadParameter(f"'{endpoint}' is not an http(s) URL.", param_hint="'--endpoint'")
    if socket is not None:
        endpoint = "http://localhost/mcp"
    from . import stdio_bridge
    from .logs import set_up_logging

    if endpoint is None:
        settings = load_or_exit(config).settings
        if settings.listen.transport == "stdio":
            click.echo("error: this configuration is for one client, which starts 'serve' over stdio itself", err=True)
            sys.exit(EX_CONFIG)
        endpoint, socket = stdio_bridge.endpoint_of(settings)
        if token is None and settings.listen.token is not None:
            token = settings.listen.token.reveal()
    set_up_logging(log_level, "text")
    sys.exit(stdio_bridge.run(endpoint, socket, token))
