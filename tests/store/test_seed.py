"""The TypeScript predecessor's file is taken over whole, or left as it was."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from aggregator.errors import StoreUnavailable
from aggregator.protocol.principal import Principal
from aggregator.store import Connection
from aggregator.store.migrate import load_migrations
from aggregator.store.seed import BACKUP_SUFFIX, import_seed
from aggregator.store.sqlite import open_sqlite_store
from aggregator.store.sqlite_file import Kind, connect, identify
from aggregator.store.sqlite_opening import open_file

from .samples import ISSUER, keys

SEED_SQL = """
CREATE TABLE IF NOT EXISTS upstream_tokens (
    user_id TEXT NOT NULL, upstream_name TEXT NOT NULL, access_token TEXT NOT NULL, refresh_token TEXT,
    token_type TEXT NOT NULL DEFAULT 'bearer', scope TEXT, expires_at INTEGER, UNIQUE(user_id, upstream_name));
CREATE TABLE IF NOT EXISTS upstream_registrations (
    upstream_name TEXT PRIMARY KEY, client_id TEXT NOT NULL, client_secret TEXT, registration_json TEXT NOT NULL);
"""
PEOPLE = 40


def write_seed(path: Path) -> None:
    """A file as the predecessor leaves it: rollback journal, 0644, and remains of overwritten tokens."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA secure_delete = OFF;" + SEED_SQL)
        for generation in ("old", "new"):
            for number in range(PEOPLE):
                row = (f"user-{number}", "gmail", f"PLAIN-access-{generation}-{number}" * 9, f"PLAIN-refresh-{number}")
                db.execute("REPLACE INTO upstream_tokens VALUES (?, ?, ?, ?, 'bearer', 'mail', 1800000000)", row)
            db.commit()
        db.execute(
            "REPLACE INTO upstream_tokens VALUES ('user-0', 'calendar', 'PLAIN-bare', NULL, 'bearer', NULL, NULL)"
        )
        db.execute(
            "INSERT INTO upstream_registrations VALUES (?, ?, ?, ?)",
            ("gmail", "PLAIN-client", "PLAIN-secret", '{"client_id": "PLAIN-client"}'),
        )
        db.execute("INSERT INTO upstream_registrations VALUES ('calendar', 'PLAIN-public', NULL, '{}')")
        db.execute("DELETE FROM upstream_tokens WHERE user_id = 'user-39'")
        db.commit()
    path.chmod(0o644)


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    path = tmp_path / "aggregator.sqlite"
    write_seed(path)
    return path


@pytest.fixture
def backup(seed: Path) -> Path:
    return seed.with_name(seed.name + BACKUP_SUFFIX)


def raw_bytes(*paths: Path) -> bytes:
    return b"".join(path.read_bytes() for path in paths if path.exists())


def kind_of(path: Path) -> Kind:
    with closing(connect(str(path))) as db:
        return identify(db)


async def expect_everyone(path: Path) -> None:
    """Everybody's access tokens, without the refresh tokens: nobody noted whose they are."""
    async with open_sqlite_store(str(path), keys(), issuer=ISSUER) as store:
        for number in range(PEOPLE - 1):
            who = Principal(ISSUER, f"user-{number}")
            found = await store.find_connection(who, "gmail")
            assert found is not None
            access = f"PLAIN-access-new-{number}" * 9
            expected = Connection(who, "gmail", found.id, access, None, "bearer", "mail", 1800000000)
            assert found == expected
            assert len(found.id) == 32
        who = Principal(ISSUER, "user-0")
        found = await store.find_connection(who, "calendar")
        assert found is not None
        assert found == Connection(who, "calendar", found.id, "PLAIN-bare", None, "bearer")
        assert await store.find_connection(Principal(ISSUER, "user-39"), "gmail") is None


async def test_everyone_keeps_their_tokens(seed: Path) -> None:
    await expect_everyone(seed)
    await expect_everyone(seed)  # the second start finds a file of ours


@pytest.mark.parametrize("token", ["two\nlines", "ümlaut", b"\x00\x01"])
async def test_what_cannot_be_sent_as_a_token_is_not_taken_over(seed: Path, token: object) -> None:
    with closing(sqlite3.connect(seed)) as db, db:
        db.execute("UPDATE upstream_tokens SET access_token = ? WHERE user_id = 'user-0'", (token,))
    async with open_sqlite_store(str(seed), keys(), issuer=ISSUER) as store:
        assert await store.connections_of(Principal(ISSUER, "user-0")) == ()
        assert len(await store.connections_of(Principal(ISSUER, "user-1"))) == 1


@pytest.mark.requirement("UP5")
async def test_registrations_without_an_issuer_are_not_kept(seed: Path) -> None:
    _, db = open_file(str(seed), keys(), issuer=ISSUER)
    with closing(db):
        assert db.execute("SELECT count(*) FROM registrations").fetchone() == (0,)
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert not {"upstream_registrations", "upstream_clients", "upstream_tokens", "seed_tokens"} & tables


def test_no_plain_text_remains_beside_the_backup(seed: Path, backup: Path) -> None:
    assert b"PLAIN-access-old" in raw_bytes(seed)  # what was overwritten is in the predecessor's free pages
    _, db = open_file(str(seed), keys(), issuer=ISSUER)
    with closing(db):
        while_open = raw_bytes(*(path for path in seed.parent.iterdir() if path != backup))
    after = raw_bytes(*(path for path in seed.parent.iterdir() if path != backup))
    assert b"PLAIN" not in while_open
    assert b"PLAIN" not in after
    assert b"seed_tokens" not in after
    assert stat.S_IMODE(seed.stat().st_mode) == 0o600


def test_the_backup_is_the_file_as_it_was_and_private(seed: Path, backup: Path) -> None:
    with closing(sqlite3.connect(seed)) as db:
        before = list(db.iterdump())
    open_file(str(seed), keys(), issuer=ISSUER)[1].close()
    with closing(sqlite3.connect(backup)) as db:
        assert list(db.iterdump()) == before
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert sorted(os.listdir(seed.parent)) == [seed.name, backup.name]


def test_the_log_names_the_backup_and_says_to_delete_it(
    seed: Path, backup: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="aggregator.store.seed"):
        open_file(str(seed), keys(), issuer=ISSUER)[1].close()
        open_file(str(seed), keys(), issuer=ISSUER)[1].close()
    (message,) = [record.getMessage() for record in caplog.records if record.name == "aggregator.store.seed"]
    assert f"{PEOPLE} tokens, of people of {ISSUER}, are encrypted now" in message
    assert "connected again when its token ends" in message
    assert str(backup) in message
    assert "delete it" in message


def test_a_file_with_tokens_only_is_imported_too(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SEED_SQL.partition("CREATE TABLE IF NOT EXISTS upstream_registrations")[0])
    open_file(str(path), keys(), issuer=ISSUER)[1].close()
    assert kind_of(path) is Kind.OURS


def test_without_an_issuer_it_is_refused_and_left_as_it_was(seed: Path) -> None:
    before = seed.read_bytes()
    with pytest.raises(StoreUnavailable, match="Set both, or name another path"):
        open_file(str(seed), keys(), issuer=None)
    assert seed.read_bytes() == before
    assert os.listdir(seed.parent) == [seed.name]


def test_a_backup_that_exists_is_never_overwritten(seed: Path, backup: Path) -> None:
    before = seed.read_bytes()
    backup.write_text("precious")
    with pytest.raises(StoreUnavailable, match=r"exists already.* Move the backup away and start again"):
        open_file(str(seed), keys(), issuer=ISSUER)
    assert backup.read_text() == "precious"
    assert seed.read_bytes() == before


def test_a_backup_that_cannot_be_created_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / ("s" * 245)  # with the suffix, longer than the 255 bytes of a name
    write_seed(path)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="cannot be created: File name too long"):
        open_file(str(path), keys(), issuer=ISSUER)
    assert path.read_bytes() == before


def test_an_import_that_fails_leaves_the_file_as_it_was_and_no_backup(seed: Path) -> None:
    before = seed.read_bytes()
    broken = (*load_migrations(), "INSERT INTO nowhere VALUES (1);")
    with closing(connect(str(seed))) as db:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            import_seed(db, str(seed), keys(), issuer=ISSUER, migrations=broken)
        assert not db.in_transaction
    assert seed.read_bytes() == before
    assert os.listdir(seed.parent) == [seed.name]


def test_a_file_that_another_process_has_imported_meanwhile_is_left_alone(seed: Path, backup: Path) -> None:
    open_file(str(seed), keys(), issuer=ISSUER)[1].close()
    backup.unlink()
    with closing(connect(str(seed))) as db:
        import_seed(db, str(seed), keys(), issuer=ISSUER, migrations=load_migrations())
    assert not backup.exists()


CRASH = """
import os, signal, sqlite3, sys
from contextlib import closing
from aggregator.store.migrate import load_migrations
from aggregator.store.seed import import_seed, scrub
from aggregator.store.sqlite_file import connect
from tests.store.samples import ISSUER, keys

path, steps = sys.argv[1], int(sys.argv[2])
db = connect(path)

def die():
    global steps
    steps -= 1
    if steps < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0

db.set_progress_handler(die, 20)
import_seed(db, path, keys(), issuer=ISSUER, migrations=load_migrations())
print("imported", flush=True)
scrub(db)
print("scrubbed", flush=True)
"""


@pytest.mark.live
async def test_a_crash_anywhere_leaves_the_predecessors_file_or_ours(tmp_path: Path) -> None:
    """SIGKILL after more and more of SQLite's work, until one run gets through; each time the next start is fine."""
    kinds = set()
    steps, done = 0, False
    for attempt in range(60):
        path = tmp_path / str(attempt) / "s.sqlite"
        os.mkdir(path.parent)
        write_seed(path)
        died = subprocess.run(  # noqa: ASYNC221 # bounded, and nothing else runs here
            [sys.executable, "-c", CRASH, str(path), str(steps)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert died.returncode in (0, -signal.SIGKILL), died.stderr
        kinds.add((died.stdout, kind_after_crash(path)))
        await expect_everyone(path)
        assert b"PLAIN" not in raw_bytes(path)
        if died.returncode == 0:
            done = True
            break
        steps = steps * 5 // 4 + 1
    assert done
    assert {("", Kind.SEED), ("imported\n", Kind.OURS), ("imported\nscrubbed\n", Kind.OURS)} <= kinds
    assert {kind for _, kind in kinds} == {Kind.SEED, Kind.OURS}


def kind_after_crash(path: Path) -> Kind:
    """What the next start finds. If that is the predecessor's file, the operator moves the backup away, as told."""
    kind = kind_of(path)
    backup = path.with_name(path.name + BACKUP_SUFFIX)
    if kind is Kind.SEED and backup.exists():
        with pytest.raises(StoreUnavailable, match="Move the backup away"):
            open_file(str(path), keys(), issuer=ISSUER)
        backup.rename(backup.with_suffix(".moved"))
    return kind
