"""The command line: `mcp-aggregator` and its commands.

Each command imports what it needs inside its body, so that ``--help`` costs a
twentieth of a second and not a whole one (a test looks at the imports). stdout
is data, stderr is talk. This file owns words and exit codes; it must not know
how anything is done.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from ..config import Loaded
    from ..config.model import AnyUpstream, Config, Servable
    from ..errors import ConfigError, Problem
    from .terminal import Terminal

# sysexits.h: systemd prints their names, and RestartPreventExitStatus=78 ends a restart loop over a bad configuration.
# A missing configuration is one too: a container without it must not end in success, nor be restarted for ever.
EX_CONFIG = 78

EPILOG = """\b
Without a command it serves, if it finds a configuration.

\b
Exit codes:
   0  done
   1  nothing to revoke or to log out of
   2  wrong usage
  69  something needed is unavailable
  75  the address is in use
  77  somebody has to log in first
  78  the configuration is missing or wrong
"""

_config_option = click.option("-c", "--config", metavar="FILE", help="Configuration; default: the first one found.")


@click.group(invoke_without_command=True, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mcp-aggregator", message="mcp-aggregator %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """One MCP endpoint for all of a team's MCP servers, behind one login."""
    if context.invoked_subcommand is not None:
        return
    from ..config.find import NoConfig

    try:
        loaded = _load(None)
    except NoConfig as exc:
        click.echo(context.get_help(), err=True)
        click.echo("\nNo configuration found; 'mcp-aggregator demo' needs none. Searched:", err=True)
        click.echo("".join(f"  {place}\n" for place in exc.places), nl=False, err=True)
        sys.exit(EX_CONFIG)
    _serve(loaded, "info", "text", None)


@main.command()
@_config_option
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="Least important message to log, on stderr.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"], case_sensitive=False),
    default="text",
    show_default=True,
    help="Lines for people or for machines.",
)
@click.option("--watch", is_flag=True, help="Load the configuration again when its file changes.")
def serve(config: str | None, log_level: str, log_format: str, watch: bool) -> None:
    """Serve until stopped (^C or SIGTERM).

    SIGHUP loads the configuration again, if nothing is wrong with it: calls in flight finish, upstreams that did not
    change stay connected. SIGUSR1 tries upstreams that fail at once.
    """
    _serve(_load_or_exit(config), log_level, log_format, config, watch=watch)


@main.command()
@_config_option
@click.option("--json", "as_json", is_flag=True, help="Print problems and warnings as JSON on stdout.")
def check(config: str | None, as_json: bool) -> None:
    """Check the configuration and list everything wrong with it; contacts nobody."""
    if as_json:
        _check_as_json(config)
    loaded = _load_or_exit(config)
    _print_warnings(loaded)
    _print(loaded, loaded.not_yet)
    names = [upstream.name for upstream in loaded.settings.upstreams]
    count = f"{len(names)} upstream{'' if len(names) == 1 else 's'}"
    click.echo(f"{loaded.source}: good, {count}: {', '.join(names)}")


@main.command("list")
@click.argument("upstream", required=False)
@_config_option
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
    """List what all upstreams offer, or one of them; connects to them itself, without a server.

    Prints each upstream as it answers. Ends with 69 if one did not answer in time, else with 77 if one wants a login.
    In a pipe: name, kind, upstream, signature and, with -d, description, separated by tabs.
    """
    if endpoint is not None and (upstream is not None or config is not None):
        raise click.UsageError("--endpoint asks an endpoint, not the configuration; give no UPSTREAM and no --config.")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise click.BadParameter(f"'{endpoint}' is not an http(s) URL.", param_hint="'--endpoint'")
    loaded = None if endpoint is not None else _load_or_exit(config)
    from .logs import set_up_logging

    set_up_logging("critical", "text")  # what goes wrong is in the list
    from . import catalog_list

    if endpoint is not None:
        asked: list[AnyUpstream] = [catalog_list.endpoint_upstream(endpoint, token)]
    else:
        assert loaded is not None
        asked = _chosen(loaded, upstream)
    wanted = [*dict.fromkeys(kinds or ("tool",)), *(["template"] if "resource" in kinds else [])]
    sys.exit(
        catalog_list.run(
            None if loaded is None else loaded.settings,
            asked,
            _terminal(),
            kinds=wanted,
            descriptions=descriptions,
            as_json=as_json,
            timeout=timeout,
        )
    )


@main.command()
@_config_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def status(config: str | None, as_json: bool) -> None:
    """Ask the running daemon how its upstreams are, and what to do about each that is not well.

    Ends with 69 if it does not run or an upstream is out of reach, else with 77 if one wants a login.
    """
    loaded = _load_or_exit(config)
    from . import standing

    start = f"mcp-aggregator serve -c {loaded.source}" if loaded.files else "mcp-aggregator serve"
    sys.exit(standing.status(loaded.settings, _terminal(), as_json=as_json, start=start))


@main.command()
@click.argument("upstream", required=False)
@_config_option
def retry(upstream: str | None, config: str | None) -> None:
    """Have the daemon try upstreams that fail now, all or one of them."""
    loaded = _load_or_exit(config)
    if upstream is not None:
        _chosen(loaded, upstream)
    from . import standing

    sys.exit(standing.retry(loaded.settings, _terminal(), upstream))


@main.command()
@click.argument("upstreams", nargs=-1, metavar="[UPSTREAM]...")
@_config_option
@click.option("--all", "everything", is_flag=True, help="Every login that is missing; so it is without UPSTREAM.")
@click.option("--no-browser", is_flag=True, help="Only print the address to open.")
def login(upstreams: tuple[str, ...], config: str | None, everything: bool, no_browser: bool) -> None:
    """Log in to upstreams that wait for it, one after another, in the browser; the daemon has to run."""
    if upstreams and everything:
        raise click.UsageError("Name upstreams, or give --all.")
    loaded = _load_or_exit(config)
    for name in upstreams:
        _chosen(loaded, name)
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

    sys.exit(standing.login(loaded.settings, _terminal(), upstreams, None if no_browser else open_page))


@main.command()
@click.argument("upstream")
@_config_option
def logout(upstream: str, config: str | None) -> None:
    """End the login at an upstream; it is revoked there where that is possible. The daemon has to run."""
    loaded = _load_or_exit(config)
    _chosen(loaded, upstream)
    from . import standing

    sys.exit(standing.logout(loaded.settings, _terminal(), upstream))


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration."""
    from ..config.schema import render_schema

    click.echo(render_schema(), nl=False)


@main.group()
def secret() -> None:
    """Make the secret under which everything is sealed."""


@secret.command()
def new() -> None:
    """Print a fresh random secret, and nothing else."""
    from ..config.secrets import new_secret

    click.echo(new_secret())


@main.command()
@_config_option
@click.option("--dry-run", is_flag=True, help="Only list the rows.")
def rekey(config: str | None, dry_run: bool) -> None:
    """List what is stored under an older key, and encrypt it with the first of 'secret'.

    Says when the older keys may be dropped. Safe while servers run.
    """
    loaded = _load_or_exit(config)
    from . import stored

    sys.exit(stored.rekey(_team_or_exit(loaded), dry_run=dry_run))


@main.command()
@click.argument("name", metavar="PERSON|CLIENT")
@_config_option
@click.option("--client", "as_client", is_flag=True, help="It is a client's name, even if a person has it too.")
def revoke(name: str, config: str | None, as_client: bool) -> None:
    """Sign a person out of everything and end their accounts at upstreams, or end all that people allowed a client.

    A person is named by their subject or by the label that pages show, a client by its registration id or its name.
    Works while servers run; prints what it ended.
    """
    loaded = _load_or_exit(config)
    from . import stored

    sys.exit(stored.revoke(_team_or_exit(loaded), name, as_client=as_client))


@main.command()
@click.option("--check", is_flag=True, help="Go the whole way once without a browser, print each step, and exit.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; default: the demo's own, 0: any free one."
)
def demo(check: bool, port: int | None) -> None:
    """Try it without accounts or network: a login provider and two MCP servers are built in."""
    from .logs import set_up_logging

    set_up_logging("warning", "text")
    from .. import demo as demonstration

    sys.exit(demonstration.run(check, port))


def _terminal() -> Terminal:
    import os

    from .terminal import Terminal

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # others choose what is printed
    return Terminal(sys.stdout, sys.stderr, os.environ)


def _chosen(loaded: Loaded, name: str | None) -> list[AnyUpstream]:
    """The enabled upstreams, or the one called `name`; another name ends the program as wrong usage."""
    upstreams = loaded.settings.upstreams
    if name is None:
        return [each for each in upstreams if each.enabled]
    found = [each for each in upstreams if each.name == name]
    if not found:
        from ..config.scalars import nearest

        names = [each.name for each in upstreams]
        meant = nearest(name, names)
        hint = f" Did you mean '{meant}'?" if meant else f" There are: {', '.join(names)}."
        raise click.BadParameter(f"no upstream is called '{name}'.{hint}", param_hint="'UPSTREAM'")
    return found


def _serve(loaded: Loaded, log_level: str, log_format: str, named: str | None, *, watch: bool = False) -> None:
    config = _config_or_exit(loaded)
    _print_warnings(loaded)
    from .logs import set_up_logging

    set_up_logging(log_level, log_format)
    from functools import partial

    from .. import server
    from ..config import load_config
    from ..reloading import Reload

    if watch and not loaded.files:
        raise click.UsageError(f"--watch: the configuration is in {loaded.source}, not in a file.")
    sys.exit(server.run(config, Reload(config, partial(load_config, named), loaded.files if watch else ())))


def _load(config: str | None) -> Loaded:
    """The configuration.

    Raises:
        NoConfig: if there is none at all. Whatever is wrong with one that exists ends the program here, with words.
    """
    from ..config import load_config
    from ..config.find import NoConfig
    from ..errors import ConfigError

    try:
        return load_config(config)
    except NoConfig:
        raise
    except ConfigError as exc:
        _exit_with(exc)


def _load_or_exit(config: str | None) -> Loaded:
    from ..config.find import NoConfig

    try:
        return _load(config)
    except NoConfig as exc:
        _exit_with(exc)


def _config_or_exit(loaded: Loaded) -> Servable:
    from ..errors import ConfigError

    try:
        return loaded.config
    except ConfigError as exc:
        _exit_with(exc)


def _team_or_exit(loaded: Loaded) -> Config:
    """A team's configuration; what the command does means nothing in local mode."""
    config = _config_or_exit(loaded)
    if config.auth is None:
        click.echo(f"{loaded.source}: this is for teams, and there is no 'auth': nobody logs in here", err=True)
        sys.exit(EX_CONFIG)
    return config


def _check_as_json(config: str | None) -> NoReturn:
    import json

    from ..config import load_config
    from ..config.report import problem_record
    from ..errors import ConfigError

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    try:
        loaded = load_config(config)
    except ConfigError as exc:
        source, problems = exc.source, exc.problems
    else:
        source, warnings = loaded.source, (*loaded.warnings, *loaded.not_yet)
    report = {
        "ok": not problems,
        "source": source,
        "problems": [problem_record(source, problem) for problem in problems],
        "warnings": [problem_record(source, problem) for problem in warnings],
    }
    click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    sys.exit(EX_CONFIG if problems else 0)


def _exit_with(error: ConfigError) -> NoReturn:
    from ..config.report import render_problems

    click.echo(render_problems(error.source, error.problems, error.text), nl=False, err=True)
    sys.exit(EX_CONFIG)


def _print_warnings(loaded: Loaded) -> None:
    _print(loaded, loaded.warnings)


def _print(loaded: Loaded, warnings: tuple[Problem, ...]) -> None:
    from ..config.report import render_problems

    click.echo(render_problems(loaded.source, warnings, loaded.text, kind="warning"), nl=False, err=True)
