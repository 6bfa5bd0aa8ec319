"""Problems on a terminal."""

from __future__ import annotations

from aggregator.config.report import problem_record, render_problems
from aggregator.errors import Problem

TEXT = "auth:\n  issuer: htps://i\n"


def test_a_problem_is_its_place_its_words_its_line_and_a_caret() -> None:
    problem = Problem("auth.issuer", "'htps://i' is not an http(s) URL", 2, 11, "https://i")
    assert render_problems("config.yaml", [problem], TEXT) == (
        "config.yaml:2:11: auth.issuer: 'htps://i' is not an http(s) URL; did you mean 'https://i'?\n"
        "    2 |   issuer: htps://i\n"
        "      |           ^\n"
    )


def test_a_problem_without_a_place_is_one_line() -> None:
    assert render_problems("x.json", [Problem("", "there is no such file")]) == "x.json: there is no such file\n"
    assert render_problems("x", [Problem("secret", "is absent")], TEXT, kind="warning") == (
        "x: warning: secret: is absent\n"
    )


def test_a_long_line_is_cut_around_the_caret() -> None:
    text = "x" * 300 + "HERE" + "y" * 300
    report = render_problems("V", [Problem("a", "b", 1, 301)], text).splitlines()
    assert len(report[1]) < 120
    assert report[1][report[2].index("^") :].startswith("HERE")
    start = render_problems("V", [Problem("a", "b", 1, 1)], text).splitlines()
    assert start[1].startswith("    1 | xxx")
    end = render_problems("V", [Problem("a", "b", 1, 604)], text).splitlines()
    assert end[1][end[2].index("^")] == "y"


def test_an_excerpt_prints_no_control_characters() -> None:
    report = render_problems("V", [Problem("a", "b", 1, 2)], "\tx\x1b[31m")
    assert "\x1b" not in report
    assert "\t" not in report


def test_a_place_beyond_the_text_has_no_excerpt() -> None:
    assert render_problems("V", [Problem("a", "b", 9, 1)], "x").count("\n") == 1


def test_machines_get_the_same_in_fields() -> None:
    assert problem_record("x.yaml", Problem("a", "b", 1, 2, "c")) == {
        "file": "x.yaml",
        "line": 1,
        "column": 2,
        "path": "a",
        "message": "b",
        "suggestion": "c",
    }
