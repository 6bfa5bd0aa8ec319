"""``revoke`` and ``rekey``: whom a name means, what is printed, and how it ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest
import trio
from click.testing import CliRunner

from aggregator.cli import main
from aggregator.cli.stored import Ambiguous, Nobody, TheseClients, ThisPerson, choose, rekey, revoke
from aggregator.config.model import Auth, Config, Secret, Upstream
from aggregator.protocol.principal import Principal
from aggregator.protocol.sealing import KeyRing, key_id
from aggregator.store import Store
from aggregator.store.sqlite import open_sqlite_store

from ..store.samples import ADA, BOB, ISSUER, connection, grant

OLD, NEW = ((bytes([number]) + bytes(range(31))).hex() for number in (1, 2))
OLD_ID, NEW_ID = (key_id(bytes.fromhex(key)) for key in (OLD, NEW))
NOW = time.time()
LATER = NOW + 86_400  # after the run
ADAS, BOBS = (
    grant("g1", expires_at=LATER, created_at=NOW),
    grant("g2", principal=BOB, label="bob@example.com", client="client-2", client_name="Other", expires_at=LATER),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def config(storage: object, *secrets: str) -> Config:
    first, *others = map(Secret, secrets or (NEW,))
    return Config(
        Auth(ISSUER),
        (),
        "https://mcp.example",
        storage=str(storage),
        secret=first if secrets else None,
        other_secrets=tuple(others),
    )


def in_store(path: Path, work: Callable[[Store], Awaitable[Any]], key: str = OLD) -> Any:
    async def opened() -> Any:
        async with open_sqlite_store(str(path), KeyRing([bytes.fromhex(key)])) as store:
            return await work(store)

    return trio.run(opened)


async def fill(store: Store) -> None:
    for each in (ADAS, BOBS):
        assert await store.add_grant(each)


# Whom a name means


@pytest.mark.parametrize("name", ["ada", "ada@example.com", "ADA@example.COM"])
def test_a_person_is_meant_by_subject_or_label(name: str) -> None:
    assert choose([ADAS, BOBS], name, as_client=False) == ThisPerson(ADA)


@pytest.mark.parametrize("name", ["client-1", "A client", "a CLIENT"])
def test_a_client_is_meant_by_id_or_name(name: str) -> None:
    for as_client in (False, True):
        assert choose([ADAS, BOBS], name, as_client=as_client) == TheseClients(("client-1",))


def test_a_client_that_calls_itself_as_a_person_is_called_does_not_stand_in_the_way() -> None:
    impostor = grant("g3", principal=BOB, label="bob", client="client-3", client_name="ada@example.com")
    assert choose([impostor, ADAS], "ada@example.com", as_client=False) == ThisPerson(ADA)
    assert choose([impostor, ADAS], "ada@example.com", as_client=True) == TheseClients(("client-3",))


def test_every_registration_of_one_name_is_meant() -> None:
    again = grant("g3", client="client-0")
    assert choose([ADAS, again, BOBS], "A client", as_client=False) == TheseClients(("client-0", "client-1"))


def test_a_label_of_two_people_needs_a_subject_and_a_subject_wins_over_a_label() -> None:
    other = Principal(ISSUER, "ada-2")
    namesake = grant("g3", principal=other, label="ada@example.com")
    nasty = grant("g4", principal=BOB, label="ada-2")
    assert choose([ADAS, namesake], "ada@example.com", as_client=False) == Ambiguous(
        ((ADA, "ada@example.com"), (other, "ada@example.com"))
    )
    assert choose([ADAS, namesake, nasty], "ada-2", as_client=False) == ThisPerson(other)


def test_another_name_means_nobody() -> None:
    assert choose([ADAS, BOBS], "eve", as_client=False) == Nobody()
    assert choose([ADAS, BOBS], "ada", as_client=True) == Nobody()


# revoke


@pytest.mark.requirement("TK8")
def test_revoking_a_person_ends_and_lists_their_grants_only(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_store(path, fill)
    assert revoke(config(path, OLD), "ada@example.com", as_client=False) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    assert line.startswith("ended  A client (client client-1) of ada@example.com (subject ada), allowed 20")
    assert "1 grant ended. Every running instance refuses their access tokens within 10 seconds.\n" in err
    assert f"unless {ISSUER} or auth.allow refuses them" in err
    assert in_store(path, lambda store: store.revoked_since(NOW)) == {"g1"}
    assert not in_store(path, lambda store: store.add_grant(grant("late", logged_in_at=NOW)))


def test_revoking_a_client_ends_what_everybody_allowed_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_store(path, fill)
    assert revoke(config(path, OLD), "other", as_client=True) == 0
    out, err = capsys.readouterr()
    assert "of bob@example.com (subject bob)" in out
    assert "The client can come back whenever a person logs in and allows it." in err
    assert in_store(path, lambda store: store.revoked_since(NOW)) == {"g2"}


def test_a_name_that_means_nobody_ends_nothing_but_a_login_in_progress(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_store(path, fill)
    assert revoke(config(path, OLD), "eve", as_client=False) == 1
    assert "no live grant belongs to a person or client called 'eve'" in capsys.readouterr().err
    assert in_store(path, lambda store: store.revoked_since(0)) == frozenset()
    eves = grant("g9", principal=Principal(ISSUER, "eve"), logged_in_at=NOW)
    assert not in_store(path, lambda store: store.add_grant(eves))


@pytest.mark.parametrize("name", ["", "  ", "\t\n", "\udcff\udcfe"])
def test_a_name_that_nobody_can_have_ends_nothing_and_is_wrong_usage(path: Path, name: str) -> None:
    """An unset variable of a script must not stand for every client without a name."""
    nameless = grant("g3", client="client-3", client_name="", expires_at=LATER)
    in_store(path, lambda store: store.add_grant(nameless))
    file = path.with_name("config.json")
    settings = {"auth": {"issuer": ISSUER}, "upstreams": [{"name": "up", "url": "https://up.example/mcp"}]}
    file.write_text(json.dumps(settings | {"storage": str(path), "secret": OLD}))
    for flags in ([], ["--client"]):
        ran = CliRunner().invoke(main, ["revoke", "-c", str(file), *flags, name])
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert "Error: Invalid value for 'PERSON|CLIENT'" in ran.stderr
    assert in_store(path, lambda store: store.revoked_since(0)) == frozenset()


def test_a_client_cannot_stand_in_for_a_person_who_is_known_by_accounts_alone(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clients choose their names: an accomplice lets one in that is called as the leaver is."""
    in_store(path, lambda store: store.add_grant(grant("g3", principal=BOB, client_name="ada", expires_at=LATER)))
    in_store(path, lambda store: connect(store, "https://as.example"))
    assert revoke(config(path, OLD), "ada", as_client=False) == 0
    assert capsys.readouterr().out.count(" of subject ada,") == 3
    assert in_store(path, lambda store: store.connections_of(ADA)) == ()
    assert in_store(path, lambda store: store.revoked_since(0)) == frozenset()


def test_whoever_has_no_grant_is_signed_out_even_if_a_client_has_their_name(path: Path) -> None:
    in_store(path, lambda store: store.add_grant(grant("g3", principal=BOB, client_name="ada", expires_at=LATER)))
    assert revoke(config(path, OLD), "ada", as_client=False) == 0
    assert in_store(path, lambda store: store.signed_out_at(ADA)) is not None


def test_a_name_of_two_people_ends_nothing_and_lists_both(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_store(path, fill)
    twin = grant("g3", principal=Principal(ISSUER, "ada-2"), expires_at=LATER)
    in_store(path, lambda store: store.add_grant(twin))
    assert revoke(config(path, OLD), "ada@example.com", as_client=False) == 1
    assert "\n  ada@example.com: subject ada\n  ada@example.com: subject ada-2\n" in capsys.readouterr().err
    assert in_store(path, lambda store: store.revoked_since(0)) == frozenset()


def test_revoking_needs_no_secret_but_a_store_that_can_be_reached(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert revoke(config("memory", OLD), "ada", as_client=False) == 69
    assert "Restart the server" in capsys.readouterr().err
    assert revoke(config(path, OLD), "ada", as_client=False) == 69
    assert f"there is no file {path}" in capsys.readouterr().err
    assert not path.exists()
    path.write_bytes(b"something else, and long enough to be looked at" * 50)
    assert revoke(config(path), "ada", as_client=False) == 69
    assert str(path) in capsys.readouterr().err
    path.unlink()
    in_store(path, fill)
    assert revoke(config(path), "ada", as_client=False) == 0


# What a leaver had connected


class _Provider(BaseHTTPRequestHandler):
    """An authorization server that can do one thing: end tokens."""

    revoked: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        issuer = f"http://{self.headers['host']}"
        fields = {name: f"{issuer}/{name}" for name in ("authorization_endpoint", "token_endpoint")}
        fields |= {"issuer": issuer, "revocation_endpoint": f"{issuer}/revoke"}
        self._answer({**fields, "code_challenge_methods_supported": ["S256"]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.revoked.append(dict(parse_qsl(body.decode())))
        self._answer({})

    def _answer(self, fields: dict[str, Any]) -> None:
        body = json.dumps(fields).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[str]:
    """Its issuer URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    _Provider.revoked.clear()


async def connect(store: Store, issuer: str) -> None:
    await store.save_connection(connection(issuer=issuer))
    await store.save_connection(connection(upstream="gone", issuer=issuer))
    await store.save_connection(connection(upstream="old", state="needs_login", access_token=None, refresh_token=None))
    await store.save_connection(connection(principal=BOB, issuer=issuer))


@pytest.mark.live
@pytest.mark.parametrize("name", ["ada@example.com", "ada"])
def test_revoking_a_person_ends_their_accounts_here_and_where_the_tokens_came_from(
    path: Path, provider: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "@" in name:  # else she let no client in, and is known by her accounts alone
        in_store(path, fill)
    in_store(path, lambda store: connect(store, provider))
    settings = replace(config(path, OLD), upstreams=(Upstream("gmail", f"{provider}/mcp", "gmail"),))
    assert revoke(settings, name, as_client=False) == 0
    out, err = capsys.readouterr()
    gmail, gone, old = [line for line in out.splitlines() if "the account" in line]
    assert gmail.startswith("ended  the account ada@gmail.example at gmail of subject ada, connected 20")
    assert gmail.endswith(": its tokens are revoked there")
    assert gone.endswith(
        "at gone of subject ada, connected 2027-01-15 08:00 UTC: its tokens could not be revoked there"
        " and end by themselves"
    )
    assert old.endswith(": it had no tokens any more")
    assert "3 accounts at upstreams forgotten." in err
    assert "of-ada" not in out + err
    assert [form["token"] for form in _Provider.revoked] == ["refresh-of-ada"]
    assert in_store(path, lambda store: store.connections_of(ADA)) == ()
    assert len(in_store(path, lambda store: store.connections_of(BOB))) == 1


def test_revoking_a_client_leaves_the_accounts_of_its_people(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_store(path, fill)
    in_store(path, lambda store: connect(store, "https://as.example"))
    assert revoke(config(path, OLD), "A client", as_client=False) == 0
    assert "account" not in capsys.readouterr().out
    assert len(in_store(path, lambda store: store.connections_of(ADA))) == 3


# rekey


async def fill_rows(store: Store) -> None:
    await store.save_connection(connection())
    await store.keep_login_token("g1", "refresh-0", next_check_at=NOW, kept_until=LATER)


def test_a_dry_run_lists_and_changes_nothing_and_a_run_does_it_once(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_store(path, fill_rows)
    rolling = config(path, NEW, OLD)
    assert rekey(rolling, dry_run=True) == 0
    out, err = capsys.readouterr()
    assert out == f"token of ada at gmail: needs {OLD_ID}\nlogin_tokens g1: needs {OLD_ID}\n"
    assert f"2 rows would be encrypted with key {NEW_ID}; nothing was changed." in err
    assert "drop" not in err
    assert rekey(rolling, dry_run=False) == 0
    out, err = capsys.readouterr()
    assert out == "token of ada at gmail: encrypted anew\nlogin_tokens g1: encrypted anew\n"
    assert f"2 rows encrypted with key {NEW_ID}." in err
    assert f"does not need {OLD_ID} any more" in err
    assert "within 7 days" in err
    assert rekey(rolling, dry_run=True) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"Every row is encrypted with key {NEW_ID}." in err
    assert in_store(path, lambda store: store.find_connection(ADA, "gmail"), key=NEW) == connection()


def test_a_row_that_nothing_opens_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_store(path, fill_rows)
    assert rekey(config(path, NEW), dry_run=False) == 0
    out, err = capsys.readouterr()
    assert f"token of ada at gmail: opens with no key of 'secret' (it names {OLD_ID}): counts as absent" in out
    assert "2 rows cannot be read" in err
    assert f"'secret' has no key but {NEW_ID}; there is none to drop." in err


def test_rekeying_needs_a_secret_and_finds_nothing_to_do_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert rekey(config("memory"), dry_run=False) == 78
    assert "mcp-aggregator secret new" in capsys.readouterr().err
    assert rekey(config("memory", NEW, OLD), dry_run=False) == 0
    out, err = capsys.readouterr()
    assert "keeps nothing encrypted" in out
    assert OLD_ID in err


def test_neither_prints_a_secret(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_store(path, fill)
    in_store(path, fill_rows)
    rekey(config(path, NEW, OLD), dry_run=False)
    revoke(config(path, NEW, OLD), "ada", as_client=False)
    printed = "".join(capsys.readouterr())
    for text in (OLD, NEW, "refresh-0", "access-of-ada", "refresh-of-ada"):
        assert text not in printed
