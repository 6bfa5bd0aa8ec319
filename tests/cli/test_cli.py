"""The command line, by subprocess: what it prints where, how it ends, and what it does not import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator.config.schema import render_schema
from aggregator.config.secrets import KeyText, check_secret
from tests.parts.processes import PATIENCE

GOOD = """\
auth: {issuer: https://accounts.google.com}
upstreams:
  - {name: gmail, url: https://gmail.example.com/mcp}
  - {name: wiki, url: https://wiki.example.com/mcp}
"""
BAD = """\
auth: {issuer: htps://idp.example.com, clientSecret: hunter2}
upstreams:
  - {name: gmail, url: https://gmail.example.com/mcp, prot: 1}
"""
EXPENSIVE = ("mcp", "mcp_types", "pydantic", "trio", "anyio", "jinja2", "httpx2", "yaml", "joserfc", "cryptography")


def run(
    folder: Path, *arguments: str, options: tuple[str, ...] = (), **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-m", "aggregator", *arguments],
        cwd=folder,
        env={"HOME": str(folder), "COLUMNS": "100", **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def test_help_imports_nothing_expensive(tmp_path: Path) -> None:
    done = run(tmp_path, "--help", options=("-X", "importtime"))
    assert done.returncode == 0
    assert "serve" in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in imported
    assert imported.isdisjoint(EXPENSIVE)


def test_checking_imports_no_server(good: Path) -> None:
    done = run(good.parent, "check", "-c", "good.yaml", options=("-X", "importtime"))
    assert done.returncode == 0
    imported = set(re.findall(r"\| +(\w+)$", done.stderr, re.MULTILINE))
    assert "pydantic" in imported
    assert imported.isdisjoint({*EXPENSIVE} - {"pydantic", "yaml"})


def test_a_good_file_is_checked_in_one_line_and_warnings_go_to_stderr(good: Path) -> None:
    done = run(good.parent, "check", "-c", "good.yaml")
    assert done.returncode == 0
    assert done.stdout == "good.yaml: good, 2 upstreams: gmail, wiki\n"
    assert "good.yaml:1:16: warning: auth.issuer: Google logs in every Google account" in done.stderr
    assert "good.yaml: warning: secret: is absent" in done.stderr


def test_problems_are_printed_with_their_places_and_end_with_78(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD)
    done = run(tmp_path, "check", "-c", "bad.yaml")
    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr == (
        "bad.yaml:1:16: auth.issuer: 'htps://idp.example.com' is not an http(s) URL;"
        " did you mean 'https://idp.example.com'?\n"
        "    1 | auth: {issuer: htps://idp.example.com, clientSecret: *******}\n"
        "      |                ^\n"
        "bad.yaml:3:55: upstreams[0].prot: is not a known key\n"
        "    3 |   - {name: gmail, url: https://gmail.example.com/mcp, prot: *}\n"
        "      |                                                       ^\n"
    )
    assert run(tmp_path, "serve", "-c", "bad.yaml").returncode == 78


CANARIES = """\
auth: {issuer: https://idp.example.com, clientSecret: c4nary-1}
secret: c4nary-2-in-some-words
outbound: {proxy: "http://c4nary-3:c4nary-4@proxy.example.com:3128"}
upstreams:
  - name: a
    url: https://a.example.com/mcp
    auth: {type: bearer, token: "${TOKEN}"}
    headers: {X-Team: c4nary-5, X-Key: {file: key}}  # c4nary-6
  - {name: b, url: https://b.example.com/mcp, auth: {type: header, header: X-Api-Key, value: c4nary-7}}
  - {name: c, url: https://c.example.com/mcp, clientId: us, clientSecret: c4nary-8}
"""


def test_no_secret_reaches_what_check_prints_of_a_good_file_or_of_a_bad_one(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("c4nary-9\n")
    wrong = [
        CANARIES.replace("type: bearer", "type: none").replace("clientId: us, ", "").replace("3128", "x"),
        CANARIES.replace("X-Team: c4nary-5", 'Host: "c4nary-5\\r\\n", X-Team: " c4nary-5"').replace(
            "value: ", "valeu: "
        ),
        CANARIES.replace("c4nary-7}}", "c4nary-7"),
        CANARIES.replace("{file: key}", "{file: key, as: c4nary-5}").replace("token: ", "token: Bearer "),
    ]
    for text, status in [(CANARIES, 0), *((text, 78) for text in wrong)]:
        (tmp_path / "c.yaml").write_text(text)
        for arguments in (("check", "-c", "c.yaml"), ("check", "-c", "c.yaml", "--json")):
            done = run(tmp_path, *arguments, TOKEN="c4nary-10")
            assert done.returncode == status, done.stderr
            assert "c4nary" not in done.stdout + done.stderr


def test_machines_get_problems_and_warnings_as_json(good: Path) -> None:
    done = run(good.parent, "check", "-c", "good.yaml", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert report["ok"] is True
    assert [warning["path"] for warning in report["warnings"]] == ["auth.issuer", "secret"]
    done = run(good.parent, "check", "--json", MCP_AGGREGATOR_CONFIG=BAD)
    report = json.loads(done.stdout)
    assert done.returncode == 78
    assert report["ok"] is False
    assert report["problems"][0] == {
        "file": "MCP_AGGREGATOR_CONFIG",
        "line": 1,
        "column": 16,
        "path": "auth.issuer",
        "message": "'htps://idp.example.com' is not an http(s) URL",
        "suggestion": "https://idp.example.com",
    }


def test_without_a_configuration_the_places_are_listed(tmp_path: Path) -> None:
    bare = run(tmp_path)
    assert (bare.returncode, bare.stdout) == (78, "")
    assert "Usage: mcp-aggregator" in bare.stderr
    for done in (bare, run(tmp_path, "check"), run(tmp_path, "serve")):
        assert done.returncode == 78
        assert (
            "MCP_AGGREGATOR_CONFIG (not set; a path, or the JSON itself)\n  ./mcp-aggregator.config.json" in done.stderr
        )
        assert f"{tmp_path}/.config/mcpmux.yaml" in done.stderr


@pytest.mark.parametrize("arguments", [("-c", "good.yaml", "check"), ("-c", "bad.yaml", "check", "-c", "good.yaml")])
def test_a_configuration_may_be_named_before_the_command(arguments: tuple[str, ...], good: Path) -> None:
    done = run(good.parent, *arguments)
    assert (done.returncode, done.stdout) == (0, "good.yaml: good, 2 upstreams: gmail, wiki\n")


def test_the_levels_of_mcpmux_are_known_by_name(good: Path) -> None:
    done = run(good.parent, "serve", "--log-level", "warn", "-c", "missing.yaml")
    assert (done.returncode, done.stderr) == (78, "missing.yaml: there is no such file\n")


def test_exit_codes_are_documented_in_the_same_words(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    documented = re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)
    shown = run(tmp_path, "--help").stdout.partition("Exit codes:")[2]
    assert re.findall(r"^ *(\d+)  (.+)$", shown, re.MULTILINE) == documented


def test_each_command_says_in_one_line_what_it_does(tmp_path: Path) -> None:
    commands = run(tmp_path, "--help", COLUMNS="80").stdout.partition("Commands:")[2].partition("\n\n")[0]
    assert "..." not in commands


def test_without_a_command_a_configuration_that_is_found_is_used(tmp_path: Path) -> None:
    (tmp_path / "mcp-aggregator.config.json").write_text("{}")
    done = run(tmp_path)
    assert done.returncode == 78
    assert done.stderr.startswith("./mcp-aggregator.config.json:1:1: upstreams: is missing")
    done = run(tmp_path, MCP_AGGREGATOR_CONFIG="/nonexistent/x.json")
    assert done.returncode == 78
    assert "names the file '/nonexistent/x.json', which does not exist" in done.stderr


def test_what_cannot_be_served_yet_is_checked_and_refused_by_serve_in_words(tmp_path: Path) -> None:
    text = """\
auth: {issuer: https://idp.example.com}
secret: 3f1c9a0d5e7b42861f0e9d8c7b6a59483726150493827160a5b4c3d2e1f0a9b8
upstreams: [{name: a, url: https://a.example.com/mcp, auth: {type: oauth}}]
"""
    (tmp_path / "mcp-aggregator.config.yaml").write_text(text)
    told = "'oauth' with 'auth' (one account for everybody) is not available yet; use 'bearer', 'header' or 'command'"
    words = f"./mcp-aggregator.config.yaml: {{}}upstreams[0].auth.type: {told}\n"
    done = run(tmp_path, "check")
    assert (done.returncode, done.stdout) == (0, "./mcp-aggregator.config.yaml: good, 1 upstream: a\n")
    assert done.stderr == words.format("warning: ")
    (warning,) = json.loads(run(tmp_path, "check", "--json").stdout)["warnings"]
    assert warning["message"] == told
    for arguments in (("serve",), (), ("revoke", "anna"), ("rekey",)):
        done = run(tmp_path, *arguments)
        assert done.returncode == 78
        assert done.stderr == words.format("")


def test_what_is_for_teams_is_refused_where_nobody_logs_in(tmp_path: Path) -> None:
    (tmp_path / "mcpmux.yaml").write_text("backends: [{name: a, transport: http, endpoint: http://localhost:1/mcp}]\n")
    for arguments in (("revoke", "anna"), ("rekey",)):
        done = run(tmp_path, *arguments)
        assert done.returncode == 78
        assert "nobody logs in here" in done.stderr


def test_the_schema_and_a_secret_are_all_that_stdout_gets(tmp_path: Path) -> None:
    assert run(tmp_path, "schema").stdout == render_schema()
    done = run(tmp_path, "secret", "new")
    assert done.stderr == ""
    assert isinstance(check_secret(done.stdout.strip()), KeyText)


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert re.fullmatch(r"mcp-aggregator \d+\.\d+\.\d+\n", run(tmp_path, "--version").stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["srve"], "Did you mean 'serve'?"),
        (["serve", "--log-level"], "requires an argument"),
        (["serve", "--log-level", "loud"], "'loud' is not one of"),
        (["serve", "--log-format", "xml"], "'xml' is not one of"),
        (["demo", "--port", "70000"], "70000 is not in the range"),
        (["check", "--jsn"], "Did you mean '--json'?"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
