"""`list`, `status`, `retry`, `login` and `logout`: what people ask of their upstreams and of the daemon that runs.

Each imports what it needs inside its body; see `aggregator.cli`.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from .loading import chosen, complete_upstream, config_option, load_or_exit, terminal

if TYPE_CHECKING:
    from ..config.model import AnyUpstream


def given(config: str | None) -> str:
    """The option ``--config`` as it was given, for commands that we name."""
    return "" if config is None else f" -c {shlex.quote(config)}"


@click.command("list")
@click.argument("upstream", required=False, shell_complete=complete_upstream)
@config_option
@click.option("--endpoint", metavar="URL", help="Ask this running MCP endpoint instead of the configured upstreams.")
@click.option(
    "--token",
    metavar="TOKEN",
    envvar="MCP_AGGREGATOR_TOKEN",
    show_envvar=True,
    help="Bearer token for --endpoint; better given by the environment, which other users cannot see.",
)
@click.option("--tools", "kinds", flag_value="tool", multiple=True, help="List tools; so it is without any of these.")
@click.option("--resources", "kinds", flag_value="resource", multiple=True, help="List resources and their templates.")
@click.option("--prompts", "kinds", flag_value="prompt", multiple=True, help="List prompts.")
@click.option("-d", "--descriptions", is_flag=True, help="Print what each says of itself.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, when all have answered.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 3600), default=5.0, show_default=True, help="Seconds to wait for upstreams."
)
def list_(
    upstream: str | None,
    config: str | None,
    endpoint: str | None,
    token: str | None,
    kinds: tuple[str, ...],
    descriptions: bool,
    as_json: bool,
    timeout: float,
) -> None:
    """List what all upstreams offer, or one of them.

    Connects to them itself, without a server, and prints each upstream as it answers. Ends with 69 if one did
    not answer in time, else with 77 if one wants a login.
    In a pipe: name, kind, upstream, signature and, with -d, description, separated by tabs.
    """
    if endpoint is not None and (upstream is not None or config is not None):
        raise click.UsageError("--endpoint asks an endpoint, not the configuration; give no UPSTREAM and no --config.")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise click.BadParameter(f"'{endpoint}' is not an http(s) URL.", param_hint="'--endpoint'")
    loaded = None if endpoint is not None else load_or_exit(config)
    from .logs import set_up_logging

    set_up_logging("critical", "text")  # what goes wrong is in the list
    from . import catalog_list

    if endpoint is not None:
        asked: list[AnyUpstream] = [catalog_list.endpoint_upstream(endpoint, token)]
    else:
        assert loaded is not None
        asked = chosen(loaded, upstream)
    wanted = [*dict.fromkeys(kinds or ("tool",)), *(["template"] if "resource" in kinds else [])]
    sys.exit(
        catalog_list.run(
            None if loaded is None else loaded.settings,
            asked,
            terminal(),
            kinds=wanted,
            descriptions=descriptions,
            as_json=as_json,
            timeout=timeout,
            option=given(config),
        )
    )


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def status(config: str | None, as_json: bool) -> None:
    """Ask the running daemon how its upstreams are.

    Says what to do about each that is not well. Ends with 69 if it does not run or an upstream is out of reach,
    else with 77 if one wants a login.
    """
    loaded = load_or_exit(config)
    from . import standing

    start = f"mcp-aggregator serve -c {loaded.source}" if loaded.files else "mcp-aggregator serve"
    sys.exit(standing.status(loaded.settings, terminal(), as_json=as_json, start=start, option=given(config)))


@click.command()
@click.argument("upstream", required=False, shell_complete=complete_upstream)
@config_option
def retry(upstream: str | None, config: str | None) -> None:
    """Have the daemon try what fails now, all or one."""
    loaded = load_or_exit(config)
    if upstream is not None:
        chosen(loaded, upstream)
    from . import standing

    sys.exit(standing.retry(loaded.settings, terminal(), upstream, option=given(config)))


@click.command()
@click.argument("upstreams", nargs=-1, metavar="[UPSTREAM]...", shell_complete=complete_upstream)
@config_option
@click.option("--all", "everything", is_flag=True, help="Every login that is missing; so it is without UPSTREAM.")
@click.option("--no-browser", is_flag=True, help="Print addresses to open, also for a browser elsewhere.")
def login(upstreams: tuple[str, ...], config: str | None, everything: bool, no_browser: bool) -> None:
    """Log in to upstreams that wait for it.

    One after another, in the browser; the daemon has to run.
    """
    if upstreams and everything:
        raise click.UsageError("Name upstreams, or give --all.")
    loaded = load_or_exit(config)
    for name in upstreams:
        chosen(loaded, name)
    from . import standing

    def open_page(url: str) -> bool:
        import trio

        from ..local_browser import open_in_browser

        async def main() -> bool:
            async with trio.open_nursery() as nursery:
                opened = bool(await nursery.start(open_in_browser, url))
                nursery.cancel_scope.cancel("the browser goes on without us")
            return opened

        return trio.run(main)

    by_hand = no_browser or not loaded.settings.has_pages
    opens = None if by_hand else open_page
    sys.exit(standing.login(loaded.settings, terminal(), upstreams, opens, option=given(config)))


@click.command()
@click.argument("upstream", shell_complete=complete_upstream)
@config_option
def logout(upstream: str, config: str | None) -> None:
    """End the login at an upstream.

    It is revoked there where that is possible. The daemon has to run.
    """
    loaded = load_or_exit(config)
    chosen(loaded, upstream)
    from . import standing

    sys.exit(standing.logout(loaded.settings, terminal(), upstream, option=given(config)))
