"""Commands that work on the store while servers do: ending grants, and giving old rows the new key.

Only a store that processes share can be reached from here. This file owns the
words; what a grant or an encrypted row is, the store knows.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import assert_never

import click
import trio

from ..config.model import Config
from ..errors import StoreUnavailable
from ..keys.deployment import make_key_ring
from ..protocol.principal import Principal, principal_of
from ..protocol.sealing import KeyRing
from ..store import UNREADABLE, Grant, OldRow, Store
from ..store.grants import is_meant
from ..store.open import open_store
from ..web.mcp.client_sessions import LIFETIME as SESSION_LIFETIME
from ..web.oauth.revocations import PROMISED_WITHIN
from .leaving import EndedAccount, end_accounts

EX_NOTHING, EX_UNAVAILABLE, EX_CONFIG = 1, 69, 78  # the last two of sysexits.h


@dataclass(frozen=True, slots=True)
class ThisPerson:
    principal: Principal


@dataclass(frozen=True, slots=True)
class TheseClients:
    """Every registration under one name, or one by its id."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The name is that of several people."""

    people: tuple[tuple[Principal, str], ...]


@dataclass(frozen=True, slots=True)
class Nobody:
    """Nothing live has this name."""


def choose(grants: Iterable[Grant], name: str, *, as_client: bool) -> ThisPerson | TheseClients | Ambiguous | Nobody:
    """Whom `name` means, of the people and clients of `grants`.

    A person comes before a client, since clients choose their names; a subject before a label, since labels repeat.
    """
    meant = [grant for grant in grants if is_meant(grant, name)]
    if not as_client:
        people = {grant.principal: grant.label for grant in meant if grant.principal.subject == name}
        if not people:
            people = {grant.principal: grant.label for grant in meant if grant.label.casefold() == name.casefold()}
        if len(people) > 1:
            return Ambiguous(tuple(sorted(people.items(), key=lambda item: item[0].key)))
        for principal in people:
            return ThisPerson(principal)
    ids = {grant.client for grant in meant if grant.client == name}
    ids = ids or {grant.client for grant in meant if grant.client_name.casefold() == name.casefold()}
    return TheseClients(tuple(sorted(ids))) if ids else Nobody()


def revoke(config: Config, name: str, *, as_client: bool) -> int:
    """End every grant of the person or client called `name`, and a person's accounts, and list them; the exit code."""
    if config.storage == "memory":
        return _fail(
            EX_UNAVAILABLE,
            "storage: 'memory' keeps grants in the server's own memory, where this command cannot reach them. Restart"
            " the server to end every login, or set 'storage' to a file.",
        )
    return _run(_revoke, config, name, as_client)


def rekey(config: Config, *, dry_run: bool) -> int:
    """List the rows that need an older key and, unless `dry_run`, encrypt them with the sealing one; the exit code."""
    if config.secret is None:
        return _fail(
            EX_CONFIG, "secret: is absent, so every start makes a random key; make one: mcp-aggregator secret new"
        )
    if config.storage == "memory":
        click.echo("storage: 'memory' keeps nothing encrypted; no row needs an older key.")
        _tell_when(config, make_key_ring(config))
        return 0
    return _run(_rekey, config, dry_run)


async def _revoke(config: Config, name: str, as_client: bool) -> int:
    async with _opened(config, make_key_ring(config)) as store:
        now = time.time()
        accounts: tuple[EndedAccount, ...] = ()
        chosen = choose(await store.find_grants(name), name, as_client=as_client)
        if isinstance(chosen, TheseClients) and not as_client:
            chosen = await _person_before(chosen, config, store, name)
        match chosen:
            case ThisPerson(principal):
                ended = await store.sign_out_person(principal, now=now)
                accounts = await end_accounts(config, store, principal)
            case TheseClients(ids):
                ended = tuple([grant for client in ids for grant in await store.sign_out_client(client, now=now)])
            case Ambiguous(people):
                listed = "".join(f"\n  {label}: subject {principal.subject}" for principal, label in people)
                return _fail(
                    EX_NOTHING, f"'{name}' is the name of {len(people)} people; give the subject of one:{listed}"
                )
            case Nobody():
                ended = ()
                if not as_client:  # a login in progress has no grant yet by which to find it
                    principal = principal_of(config.auth.issuer, name)
                    await store.sign_out_person(principal, now=now)
                    accounts = await end_accounts(config, store, principal)
            case _:
                assert_never(chosen)
    if not ended and not accounts:
        words = f"no live grant belongs to a person or client called '{name}'; nothing was ended"
        if not as_client:
            words += f" but sessions in a browser, and logins in progress, of whoever has the subject '{name}'"
        return _fail(EX_NOTHING, words)
    for grant in ended:
        used = grant.last_used_at or grant.created_at
        click.echo(
            f"ended  {grant.client_name or 'a client without a name'} (client {grant.client}) of {grant.label}"
            f" (subject {grant.principal.subject}), allowed {_date(grant.created_at)}, last used {_date(used)}"
        )
    for left in accounts:
        click.echo(_told_account(left))
    bound = f"Every running instance refuses their access tokens within {PROMISED_WITHIN:.0f} seconds."
    click.echo(f"{_count(len(ended), 'grant')} ended. {bound}", err=True)
    if accounts:
        click.echo(f"{_count(len(accounts), 'account')} at upstreams forgotten.", err=True)
    if not isinstance(chosen, TheseClients):
        remedy = f"They can log in again unless {config.auth.issuer} or auth.allow refuses them."
    else:
        remedy = "The client can come back whenever a person logs in and allows it."
    click.echo(remedy, err=True)
    return 0


async def _person_before(clients: TheseClients, config: Config, store: Store, name: str) -> ThisPerson | TheseClients:
    """A person without grants who is meant after all: clients choose their names, and accounts show that one exists.

    Whether one does or not, a login of theirs in progress ends.
    """
    principal = principal_of(config.auth.issuer, name)
    if await store.connections_of(principal):
        return ThisPerson(principal)
    await store.sign_out_person(principal, now=time.time())
    return clients


async def _rekey(config: Config, dry_run: bool) -> int:
    keys = make_key_ring(config)
    done, unreadable = 0, 0
    async with _opened(config, keys) as store:
        for row in await store.old_rows():
            if row.is_readable and (dry_run or await store.reencrypt(row)):
                done += 1
                told = "needs " + ", ".join(row.key_ids) if dry_run else "encrypted anew"
            elif row.is_readable:
                told = "gone meanwhile"
            else:
                unreadable += 1
                told = f"opens with no key of 'secret' (it names {', '.join(row.key_ids)}): counts as absent"
            click.echo(f"{_described(row)}: {told}")
    if unreadable:
        click.echo(
            f"{_count(unreadable, 'row')} cannot be read; connecting or logging in again replaces them.", err=True
        )
    sealing = keys.key_ids[0]
    if not done and not unreadable:
        click.echo(f"Every row is encrypted with key {sealing}.", err=True)
    elif dry_run and done:
        click.echo(f"{_count(done, 'row')} would be encrypted with key {sealing}; nothing was changed.", err=True)
    else:
        click.echo(f"{_count(done, 'row')} encrypted with key {sealing}.", err=True)
    if not (dry_run and done):
        _tell_when(config, keys)
    return 0


def _tell_when(config: Config, keys: KeyRing) -> None:
    """When the older keys may leave the list. Rows are one thing; what travels sealed is another."""
    sealing, *older = keys.key_ids
    if not older:
        click.echo(f"'secret' has no key but {sealing}; there is none to drop.", err=True)
        return
    days = max(config.tokens.refresh_idle, SESSION_LIFETIME) / 86400
    click.echo(
        f"The store does not need {', '.join(older)} any more. What was sealed with it ends by itself within {days:g}"
        f" days of the moment when the last instance began to seal with {sealing}: drop it from 'secret' then."
        " Clients that registered before that moment register and log in again; see docs/operations.md.",
        err=True,
    )


@asynccontextmanager
async def _opened(config: Config, keys: KeyRing) -> AsyncIterator[Store]:
    async with open_store(config.storage, keys, issuer=None) as store:
        yield store


def _run(work: Callable[..., Coroutine[None, None, int]], config: Config, *arguments: object) -> int:
    if not os.path.exists(config.storage):  # opening it would make one
        return _fail(EX_UNAVAILABLE, f"storage: there is no file {config.storage}; run this where the server runs.")
    try:
        return trio.run(partial(work, config, *arguments))
    except StoreUnavailable as exc:
        return _fail(EX_UNAVAILABLE, str(exc))


def _told_account(ended: EndedAccount) -> str:
    account = ended.account
    if ended.is_revoked:
        there = "its tokens are revoked there"
    elif account.access_token is None and account.refresh_token is None:
        there = "it had no tokens any more" if account.reason != UNREADABLE else "its tokens could not be read"
    else:
        there = "its tokens could not be revoked there and end by themselves"
    named = f" {account.account}" if account.account else ""
    return (
        f"ended  the account{named} at {account.upstream} of subject {account.principal.subject},"
        f" connected {_date(account.connected_at)}: {there}"
    )


def _described(row: OldRow) -> str:
    match row.table, row.key:
        case "connections", (person, upstream):
            return f"token of {person.partition('|')[2]} at {upstream}"
        case "registrations", (upstream, issuer):
            return f"our registration for {upstream} at {issuer}"
        case _:
            return f"{row.table} {' '.join(row.key)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) + " UTC"


def _fail(code: int, words: str) -> int:
    click.echo(f"mcp-aggregator: {words}", err=True)
    return code
