"""Where the configuration is looked for, in which order, and what is said when it is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aggregator.config.find import NoConfig, find_source
from aggregator.config.load import load_config
from aggregator.errors import ConfigError

from .loading import minimal

IN_CWD = ["mcp-aggregator.config.json", "mcp-aggregator.config.yaml", "mcpmux.yaml"]
IN_XDG = ["mcp-aggregator/config.yaml", "mcp-aggregator/config.json", "mcpmux/config.yaml", "mcpmux.yaml"]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A working directory and a configuration home in which every usual file exists and holds its own name."""
    cwd, xdg = tmp_path / "cwd", tmp_path / "xdg"
    for folder, names in ((cwd, IN_CWD), (xdg, IN_XDG)):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{folder.name}/{name}")
    return cwd, xdg


def test_usual_files_are_asked_in_order(places: tuple[Path, Path]) -> None:
    cwd, xdg = places
    environ = {"XDG_CONFIG_HOME": str(xdg)}
    for folder, names in ((cwd, IN_CWD), (xdg, IN_XDG)):
        for name in names:
            assert find_source(None, environ=environ, cwd=cwd).text == f"{folder.name}/{name}"
            (folder / name).unlink()
    with pytest.raises(NoConfig) as caught:
        find_source(None, environ=environ, cwd=cwd)
    assert caught.value.places[1:] == (*(f"./{name}" for name in IN_CWD), *(str(xdg / name) for name in IN_XDG))
    assert "MCP_AGGREGATOR_CONFIG" in caught.value.problems[0].message


def test_the_configuration_home_is_in_the_home_unless_it_is_named_in_full(places: tuple[Path, Path]) -> None:
    _, xdg = places
    home = xdg.parent / "home"
    home.mkdir()
    xdg.rename(home / ".config")
    for environ in ({"HOME": str(home)}, {"HOME": str(home), "XDG_CONFIG_HOME": "relative"}):
        assert find_source(None, environ=environ, cwd=home).text == "xdg/mcp-aggregator/config.yaml"
    with pytest.raises(NoConfig):
        find_source(None, environ={}, cwd=home)


def test_the_variable_beats_files_and_the_option_beats_the_variable(places: tuple[Path, Path]) -> None:
    cwd, xdg = places
    environ = {"MCP_AGGREGATOR_CONFIG": str(xdg / "mcpmux.yaml")}
    assert find_source(None, environ=environ, cwd=cwd).text == "xdg/mcpmux.yaml"
    assert find_source("mcpmux.yaml", environ=environ, cwd=cwd).text == "cwd/mcpmux.yaml"


@pytest.mark.parametrize("text", [json.dumps(minimal()), "\n  {}", "auth:\n  issuer: x", "auth: {issuer: x}"])
def test_the_variable_may_hold_the_text_itself(text: str, tmp_path: Path) -> None:
    source = find_source(None, environ={"MCP_AGGREGATOR_CONFIG": text}, cwd=tmp_path)
    assert (source.name, source.text) == ("MCP_AGGREGATOR_CONFIG", text.strip())


def test_an_empty_variable_is_as_good_as_none(places: tuple[Path, Path]) -> None:
    cwd, _ = places
    assert find_source(None, environ={"MCP_AGGREGATOR_CONFIG": " "}, cwd=cwd).name == "./mcp-aggregator.config.json"


@pytest.mark.parametrize("named", ["/nonexistent/x.json", "x" * 5000])
def test_a_variable_that_names_no_file_says_so(named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_source(None, environ={"MCP_AGGREGATOR_CONFIG": named}, cwd=tmp_path)
    assert "names the file" in caught.value.problems[0].message
    assert "does not exist" in caught.value.problems[0].message


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"auth:\n  x: \xe4\n")
    (tmp_path / "large").write_bytes(b" " * (4 * 2**20 + 1))
    for name, words in (
        ("missing", "there is no such file"),
        (".", "Is a directory"),
        ("latin", "is not UTF-8"),
        ("large", "larger than 4 MiB"),
    ):
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")) as caught:
            find_source(name, environ={}, cwd=tmp_path)
        assert words in caught.value.problems[0].message


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(minimal()).encode())
    assert load_config("config.json", environ={}, cwd=tmp_path).source == "config.json"


def test_the_process_environment_and_directory_are_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MCP_AGGREGATOR_CONFIG", raising=False)
    (tmp_path / "mcp-aggregator.config.json").write_text(json.dumps(minimal()))
    assert load_config().source == "./mcp-aggregator.config.json"
