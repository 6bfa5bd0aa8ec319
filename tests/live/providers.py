"""Every identity provider that runs here logs a person in: ``python -m tests.live.providers [NAME...]``.

Each login goes through the assembled aggregator with a real MCP client, and
ends with the list of an upstream's tools. `CASES` is also what
`test_providers` runs, but for those of Debian.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial

import trio

from aggregator.config.model import Auth, Secret
from tests.parts.identity_providers import Provider
from tests.parts.identity_providers.glewlwyd import open_glewlwyd
from tests.parts.identity_providers.lemonldap import open_lemonldap
from tests.parts.identity_providers.node import open_variant
from tests.parts.identity_providers.python import open_canaille, open_mock, open_nanoidp
from tests.parts.install import PartMissing
from tests.parts.processes import free_port
from tests.parts.scripted_clients import ClientRun, run_client
from tests.parts.servers import open_ts_server

from .deployment import open_deployment

_ACCOUNT = re.compile(r"signed in as</dt>\s*<dd><bdi>([^<]*)")
WITHIN = 600.0  # seconds for one provider: its start, the login, the list; ten are enough when all is well


@dataclass(frozen=True, slots=True)
class Case:
    """One provider, the configuration under which it is used, and who the consent page must name."""

    name: str
    open: Callable[[str], AbstractAsyncContextManager[Provider]]
    account: str = "alice@example.test"
    scopes: tuple[str, ...] = ("openid", "email")
    user_claim: str = "sub"
    allow: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    debian: bool = False  # installs packages of the distribution: never asked of a test run


GROUPS = ("openid", "email", "groups")
ENGINEERS = {"groups": ("eng",)}
CASES = (
    Case("oidc-provider", open_variant),
    Case("oidc-provider-path", partial(open_variant, path="/realms/test")),
    Case("oidc-provider-PS256", partial(open_variant, algorithm="PS256")),
    Case("oidc-provider-ES256", partial(open_variant, algorithm="ES256")),
    Case("oidc-provider-EdDSA", partial(open_variant, algorithm="EdDSA")),
    Case("oidc-provider-lean", partial(open_variant, lean=True), scopes=GROUPS, user_claim="email", allow=ENGINEERS),
    Case("canaille", open_canaille),
    Case("nanoidp", open_nanoidp, "alice", ("openid", "email", "profile"), user_claim="email", allow=ENGINEERS),
    Case("oidc-provider-mock", open_mock, user_claim="email", allow={"email": ("alice@example.test",)}),
    Case("glewlwyd", open_glewlwyd, debian=True),
    Case("lemonldap", open_lemonldap, "dwho", ("openid", "email", "profile"), "preferred_username", debian=True),
)


async def log_in(case: Case) -> ClientRun:
    """Log in and list tools.

    Raises:
        AssertionError: if that fails, or somebody else was logged in.
        PartMissing: if the provider is not on this machine and cannot be got.
    """
    port = free_port()
    accounts: list[str] = []

    def look(url: str, html: str) -> None:
        if url.startswith(f"http://127.0.0.1:{port}/consent"):
            accounts.extend(_ACCOUNT.findall(html))

    async with case.open(f"http://127.0.0.1:{port}/callback") as there, open_ts_server() as upstream:
        auth = Auth(
            there.issuer,
            there.client_id,
            None if there.client_secret is None else Secret(there.client_secret),
            scopes=case.scopes,
            user_claim=case.user_claim,
            allow=case.allow,
        )
        async with (
            open_deployment({"up": upstream}, issuer=there.issuer, port=port, auth=auth) as ours,
            there.browser() as browser,
        ):
            run = await run_client(
                "typescript2", ours.mcp, user=there.user, password=there.password, browser=browser, on_page=look
            )
    assert run.authorized
    assert {"up__add", "gateway__status"} <= set(run.tools)
    assert accounts == [case.account], f"the consent page names {accounts}"
    return run


async def main(names: list[str]) -> int:
    """One line for each provider and a sum; the number of those that failed (those missing did not)."""
    if unknown := set(names) - {case.name for case in CASES}:
        raise SystemExit(
            f"no such provider: {', '.join(sorted(unknown))}; there are {', '.join(c.name for c in CASES)}"
        )
    failed = missing = 0
    asked = [case for case in CASES if not names or case.name in names]
    for case in asked:
        begun = trio.current_time()
        try:
            with trio.fail_after(WITHIN):
                run = await log_in(case)
        except* PartMissing as group:
            print(f"missing  {case.name:22} {_first(group)}")
            missing += 1
        except* (AssertionError, trio.TooSlowError) as group:
            print(f"FAILED   {case.name:22} {_first(group)}")
            failed += 1
        else:
            seconds = trio.current_time() - begun
            print(f"ok       {case.name:22} {seconds:4.1f} s  {len(run.tools)} tools as {case.account}")
    print(f"{len(asked) - failed - missing} logged in, {failed} failed, {missing} missing")
    return failed


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(trio.run(main, sys.argv[1:]))
