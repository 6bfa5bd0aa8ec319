"""Where a login comes back to: our own page, or the port that a client was registered for."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from aggregator.config.model import Account, Auth, BrowserLogin, Config, Upstream
from aggregator.errors import UpstreamLost
from aggregator.protocol.oauth.site import site_of
from aggregator.protocol.principal import LOCAL
from aggregator.web.people.accounts import Accounts
from aggregator.web.people.connecting import comes_back_by_port, way_back

from .account_fakes import FakeAccounts

SITE = site_of("http://localhost:8080")
PAGE = "http://localhost:8080/upstream-auth/callback/mail"
REGISTERED = Account(client_id="our-id")


def mail(account: Account = Account(), *, name: str = "mail", **options: Any) -> Upstream:  # noqa: B008  frozen
    return Upstream(name, f"https://{name}.example/mcp", name, account=account, browser_login=BrowserLogin(**options))


def config(*upstreams: Upstream) -> Config:
    return Config(Auth(LOCAL.issuer), upstreams, SITE.issuer)


class Ports:
    """Those that are open, by login."""

    def __init__(self, *, taken: bool = False) -> None:
        self.expected: dict[str, tuple[int, str]] = {}
        self._taken = taken

    async def expect(self, state: str, port: int, page: str) -> str:
        await trio.lowlevel.checkpoint()
        if self._taken:
            raise UpstreamLost(f"the port {port} is taken")
        self.expected[state] = port, page
        return f"http://127.0.0.1:{port or 40000}/callback"

    def forget(self, state: str) -> None:
        self.expected.pop(state, None)


def accounts(ports: Ports | None) -> Accounts:
    fakes = FakeAccounts().accounts()
    return Accounts(fakes.oauth, fakes.connections, fakes.upstreams, fakes.statuses, returns=ports)


@pytest.mark.parametrize(
    ("upstream", "others", "by_port"),
    [
        (mail(), (), False),
        (mail(REGISTERED), (), True),
        (mail(client_id_command=("pass", "id")), (), True),
        (mail(callback_port=8085), (), True),
        (mail(callback_port=8085), (mail(name="notes", callback_port=8085),), False),
        (mail(callback_port=8085), (mail(name="notes", callback_port=8086),), True),
        (mail(REGISTERED, callback_port=8085), (mail(name="notes", callback_port=8085),), True),
        (Upstream("mail", "https://mail.example/mcp", "mail", account=REGISTERED), (), False),
    ],
)
def test_a_port_is_for_registered_clients_and_for_who_has_it_alone(
    upstream: Upstream, others: tuple[Upstream, ...], by_port: bool
) -> None:
    assert comes_back_by_port(config(upstream, *others), upstream) is by_port


async def test_a_login_by_port_is_expected_there_and_led_on_to_our_page() -> None:
    upstream, ports = mail(REGISTERED, callback_port=8085), Ports()
    uri = await way_back(config(upstream), SITE, accounts(ports), upstream, "s1")
    assert uri == "http://127.0.0.1:8085/callback"
    assert ports.expected == {"s1": (8085, PAGE)}


async def test_without_ports_everything_comes_back_to_our_page() -> None:
    upstream = mail(REGISTERED, callback_port=8085)
    assert await way_back(config(upstream), SITE, accounts(None), upstream, "s1") == PAGE


async def test_a_port_that_cannot_be_had_is_the_upstreams_failure() -> None:
    upstream = mail(REGISTERED, callback_port=8085)
    with pytest.raises(UpstreamLost, match="8085"):
        await way_back(config(upstream), SITE, accounts(Ports(taken=True)), upstream, "s1")
