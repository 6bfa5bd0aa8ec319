"""The command line: `mcp-aggregator` and its commands.

Each command imports what it needs inside its body, so that ``--help`` costs a
twentieth of a second and not a whole one (a test looks at the imports). stdout
is data, stderr is talk. This file owns words and exit codes; it must not know
how anything is done.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .asking import list_, login, logout, retry, status
from .bridging import stdio
from .loading import (
    EX_CONFIG,
    check_as_json,
    config_option,
    config_or_exit,
    load,
    load_or_exit,
    log_level_option,
    pass_on_config,
    print_problems,
    print_warnings,
    team_or_exit,
)

if TYPE_CHECKING:
    from ..config import Loaded

EPILOG = """\b
Without a command it serves, if it finds a configuration.

\b
Exit codes:
   0  done
   1  there was nothing to end, the reader of a pipe has gone, ^C, or a crash
   2  wrong usage
  69  something needed is unavailable: an upstream, the daemon, the store
  75  the address to serve at cannot be had
  77  somebody has to log in first
  78  the configuration is missing or wrong, or not one for this command
"""


GETTING_STARTED = """
No configuration found; 'mcp-aggregator demo' needs none. One for yourself, say mcp-aggregator.config.yaml:

  upstreams:
    - name: everything
      command: [npx, -y, "@modelcontextprotocol/server-everything"]

Searched:"""


@click.group(invoke_without_command=True, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mcp-aggregator", message="mcp-aggregator %(version)s")
@config_option
@click.pass_context
def main(context: click.Context, config: str | None) -> None:
    """One MCP endpoint for all MCP servers: those of a team, behind one login, or your own on this machine."""
    if context.invoked_subcommand is not None:
        pass_on_config(context, config)
        return
    from ..config.find import NoConfig

    try:
        loaded = load(config)
    except NoConfig as exc:
        click.echo(context.get_help(), err=True)
        click.echo(GETTING_STARTED, err=True)
        click.echo("".join(f"  {place}\n" for place in exc.places), nl=False, err=True)
        sys.exit(EX_CONFIG)
    _serve(loaded, "info", "text", config)


@main.command()
@config_option
@log_level_option("info")
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
    _serve(load_or_exit(config), log_level, log_format, config, watch=watch)


@main.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print problems and warnings as JSON on stdout.")
def check(config: str | None, as_json: bool) -> None:
    """List all that is wrong with the configuration.

    Contacts nobody.
    """
    if as_json:
        check_as_json(config)
    loaded = load_or_exit(config)
    print_warnings(loaded)
    print_problems(loaded, loaded.not_yet)
    names = [upstream.name for upstream in loaded.settings.upstreams]
    count = f"{len(names)} upstream{'' if len(names) == 1 else 's'}"
    click.echo(f"{loaded.source}: good, {count}: {', '.join(names)}")


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
@config_option
@click.option("--dry-run", is_flag=True, help="Only list the rows.")
def rekey(config: str | None, dry_run: bool) -> None:
    """Encrypt what is stored with the newest key.

    Lists what is stored under an older one than the first of 'secret', and encrypts it with that. Says
    when the older keys may be dropped. Safe while servers run.
    """
    loaded = load_or_exit(config)
    from . import stored

    sys.exit(stored.rekey(team_or_exit(loaded), dry_run=dry_run))


def _name(context: click.Context, parameter: click.Parameter, given: str) -> str:
    """A name that somebody can have: clients may be without one, and an unset variable must not mean all of those."""
    if not given.strip():
        raise click.BadParameter("it is empty; name one person or client.")
    try:
        given.encode()
    except UnicodeEncodeError:  # the shell's bytes were none of the locale's text
        raise click.BadParameter("it is not text; no name is written so.") from None
    return given


@main.command()
@click.argument("name", metavar="PERSON|CLIENT", callback=_name)
@config_option
@click.option("--client", "as_client", is_flag=True, help="It is a client's name, even if a person has it too.")
def revoke(name: str, config: str | None, as_client: bool) -> None:
    """Sign a person out everywhere, or a client.

    Ends a person's accounts at upstreams, too; of a client, everything that people allowed it.
    A person is named by their subject or by the label that pages show, a client by its registration id or its name.
    Works while servers run; prints what it ended.
    """
    loaded = load_or_exit(config)
    from . import stored

    sys.exit(stored.revoke(team_or_exit(loaded), name, as_client=as_client))


@main.command()
@click.option("--check", is_flag=True, help="Go the whole way once without a browser, print each step, and exit.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; default: the demo's own, 0: any free one."
)
def demo(check: bool, port: int | None) -> None:
    """Try it without accounts or network.

    A login provider and two MCP servers are built in.
    """
    from .logs import set_up_logging

    set_up_logging("warning", "text")
    from .. import demo as demonstration

    sys.exit(demonstration.run(check, port))


def _serve(loaded: Loaded, log_level: str, log_format: str, named: str | None, *, watch: bool = False) -> None:
    config = config_or_exit(loaded)
    print_warnings(loaded)
    from .logs import set_up_logging

    set_up_logging(log_level, log_format)
    from functools import partial

    from .. import server
    from ..config import load_config
    from ..reloading import Reload

    if watch and not loaded.files:
        raise click.UsageError(f"--watch: the configuration is in {loaded.source}, not in a file.")
    sys.exit(server.run(config, Reload(config, partial(load_config, named), loaded.files if watch else ())))


for command in (list_, login, logout, retry, status, stdio):
    main.add_command(command)
