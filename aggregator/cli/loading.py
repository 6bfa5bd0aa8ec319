"""The configuration for a command: found, read, and where something is wrong, said in words that end the program.

Also what commands write on, and the options that several have. Nothing here knows any command.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from ..config import Loaded
    from ..config.model import AnyUpstream, Config, Servable
    from ..errors import ConfigError, Problem
    from .terminal import Terminal

# sysexits.h: systemd prints their names, and RestartPreventExitStatus=78 ends a restart loop over a bad configuration.
# A missing configuration is one too: a container without it must not end in success, nor be restarted for ever.
EX_CONFIG = 78

_Command = TypeVar("_Command", bound=Callable[..., Any])

config_option = click.option("-c", "--config", metavar="FILE", help="Configuration; default: the first one found.")


def log_level_option(default: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warn", "warning", "error"], case_sensitive=False),
        default=default,
        show_default=True,
        help="Least important message to log, on stderr.",
    )


def pass_on_config(context: click.Context, config: str | None) -> None:
    """``-c FILE`` before the command counts as if it stood behind it, unless another one does."""
    if config is None:
        return
    name = str(context.invoked_subcommand)
    assert isinstance(context.command, click.Group)
    command = context.command.get_command(context, name)
    if command is None or all(parameter.name != "config" for parameter in command.params):
        raise click.UsageError(f"'{name}' reads no configuration; leave out -c.")
    context.default_map = {name: {"config": config}}


def terminal() -> Terminal:
    import os

    from .terminal import Terminal

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # others choose what is printed
    return Terminal(sys.stdout, sys.stderr, os.environ)


def chosen(loaded: Loaded, name: str | None) -> list[AnyUpstream]:
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


def complete_upstream(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """What a shell offers for the name of an upstream: those of the configuration, if it can be read."""
    from ..config import load_config
    from ..errors import ConfigError

    try:
        names = [each.name for each in load_config(context.params.get("config")).settings.upstreams]
    except ConfigError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def load(config: str | None) -> Loaded:
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


def load_or_exit(config: str | None) -> Loaded:
    from ..config.find import NoConfig

    try:
        return load(config)
    except NoConfig as exc:
        _exit_with(exc)


def config_or_exit(loaded: Loaded) -> Servable:
    from ..errors import ConfigError

    try:
        return loaded.config
    except ConfigError as exc:
        _exit_with(exc)


def team_or_exit(loaded: Loaded) -> Config:
    """A team's configuration; what the command does means nothing in local mode."""
    config = config_or_exit(loaded)
    if config.auth is None:
        click.echo(f"{loaded.source}: this is for teams, and there is no 'auth': nobody logs in here", err=True)
        sys.exit(EX_CONFIG)
    return config


def check_as_json(config: str | None) -> NoReturn:
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


def print_warnings(loaded: Loaded) -> None:
    print_problems(loaded, loaded.warnings)


def print_problems(loaded: Loaded, warnings: tuple[Problem, ...]) -> None:
    from ..config.report import render_problems

    click.echo(render_problems(loaded.source, warnings, loaded.text, kind="warning"), nl=False, err=True)
