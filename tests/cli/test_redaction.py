"""No canary leaves through a log, in whatever notation a named field holds it."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.cli.logs import JsonLines, TextLines
from aggregator.cli.redaction import REDACTED, Redaction, redact

FIELDS = (
    "Authorization Cookie Set-Cookie code state token refresh_token access_token id_token client_secret "
    "code_verifier Referer Proxy-Authorization"
).split()
HEADERS = [field for field in FIELDS if field[0].isupper()]

NOTATIONS: dict[str, Callable[[str, str], str]] = {
    "header": "{}: {}".format,
    "assignment": "{}={}".format,
    "form": lambda field, value: f"a=1&{field}={quote(value, safe='')}&b=2",
    "query within a query": lambda field, value: "next=" + quote(f"/back?{field}={value}&b=2", safe=""),
    "json": lambda field, value: json.dumps({"a": 1, field: value, "b": 2}),
    "json within json": lambda field, value: json.dumps({"body": json.dumps({field: value})}),
    "dict": lambda field, value: repr({"a": 1, field: value}),
    "bytes": lambda field, value: repr({field.encode(): value.encode()}),
    "list of pairs": lambda field, value: repr([("a", "b"), (field, value)]),
    "list of pairs of bytes": lambda field, value: repr([(field.encode(), value.encode())]),
    "parsed form": lambda field, value: repr({field: [value]}),
    "keywords": lambda field, value: f"Tokens({field}={value!r}, other=1)",
    "cut off": lambda field, value: json.dumps({field: value})[:-2],
}
canaries = st.from_regex(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{7,60}", fullmatch=True).map("canary-".__add__)
notations = st.sampled_from(sorted(NOTATIONS))


def logged(form: logging.Formatter, message: object, *args: object, **extra: object) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(form)
    handler.addFilter(Redaction())
    logger = logging.Logger("x")
    logger.addHandler(handler)
    exc_info = extra.pop("exc_info", None)
    logger.error(message, *args, exc_info=exc_info, extra=extra)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("notation", NOTATIONS)
def test_the_value_of_a_named_field_is_taken_out_in_every_notation(field: str, notation: str) -> None:
    for name in (field, field.lower(), field.upper()):
        shown = redact(NOTATIONS[notation](name, "canary-7hK2.x_y~z"))
        assert "canary" not in shown
        assert REDACTED in shown


@pytest.mark.requirement("AP8")
@given(st.sampled_from(FIELDS), canaries, notations, st.text(max_size=40), st.text(max_size=40))
def test_whatever_a_record_holds_the_line_lacks_the_canary_and_is_json(
    field: str, canary: str, notation: str, before: str, after: str
) -> None:
    held = NOTATIONS[notation](field, canary)
    try:
        try:
            raise ValueError(held)
        except ValueError as exc:
            raise RuntimeError(f"{before} {held} {after}") from exc
    except RuntimeError as exc:
        failure = exc
    lines: list[tuple[str, tuple[object, ...], dict[str, object]]] = [
        (f"{before} {held} {after}", (), {}),
        ("%s and %r", (held, held), {}),
        ("%s", ({field: canary},), {}),
        ("words", (), {field: canary, "bound": held, "nested": {"x": [{field: canary}, [field, canary]]}}),
        ("failed", (), {"exc_info": failure}),
        ("failed: %s", (failure,), {}),
    ]
    for message, args, extra in lines:
        text = logged(TextLines(), message, *args, **extra)
        assert canary not in text
        assert canary not in logged(logging.Formatter("%(message)s"), message, *args, **extra)
        line = logged(JsonLines(), message, *args, **extra)
        assert canary not in line
        assert json.loads(line)["logger"] == "x"


@given(st.sampled_from(HEADERS), st.text(alphabet=st.characters(exclude_characters="\r\n"), max_size=60))
def test_a_header_goes_to_the_end_of_its_line_whatever_it_holds(field: str, value: str) -> None:
    assert "canary" not in redact(f"GET / HTTP/1.1\r\n{field}: {value} canary\r\nHost: x\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "got mcpa_at_eyJhbGciOiJkaXIifQ..abcdefghijklmnop.canary.aaaaaaaaaaaaaaaaaaaaaa",
        "got mcpa_rt_canary, mcpa_ac_canary",
        "GET /x/eyJhbGciOiJSUzI1NiJ9abc.canary.canary HTTP/1.1",
        "sent eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..canary.canary.canary",
        "a bearer: Bearer canary0123456789abcdef",
        "Basic canary0123456789abcdef==",
        'say \\"token\\": \\"a\\\\canary\\"',
        '{"client_secret": "with \\"quotes\\" canary"}',
        '{"Cookie": "a=\\"1\\"; b=canary"}',
        'Cookie: "1"; b=canary',
        "Cookie: 1; b=canary",
        "code == canary",
        "{'set-cookie': ['a=1', 'b=canary']}",
    ],
)
def test_tokens_are_taken_out_under_any_name(text: str) -> None:
    assert "canary" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "upstream gmail: answered 401, status code: 401",
        '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}',
        "exit code=78",
        "'code': 0, \"code\": null",
        "secret: seals with key 3kf93kd0, opens also 0kd93kda; all instances of a deployment name the same",
        "upstream gmail: left out send: its name is longer than 64",
        "statecode=5 encode: utf8 barcode=x tokens: 3",
        "the authorization server at https://idp.example/realms/x answered no code, no state and no token",
        "basic authentication is not offered",
    ],
)
def test_what_only_looks_alike_stays_readable(text: str) -> None:
    assert redact(text) == text


def test_what_was_taken_out_once_stays_so() -> None:
    for field in FIELDS:
        for notation in NOTATIONS.values():
            once = redact(notation(field, "canary-7hK2"))
            assert "canary" not in redact(redact(once))


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("canary")


def test_a_record_that_cannot_be_rendered_is_told_without_its_contents() -> None:
    for form in (TextLines(), JsonLines()):
        for line in (
            logged(form, "%d", "canary"),
            logged(form, Broken()),
            logged(form, "%s %s", "canary"),
            logged(form, "x", bound=Broken(), other="token=canary"),
        ):
            assert "cannot be shown" in line
            assert "canary" not in line


def test_an_access_log_shows_no_header_that_its_format_picks() -> None:
    atoms = {"{cookie}i": "a=canary", "{Set-Cookie}o": "canary", "f": "http://canary/", "s": 200, "token": "canary"}
    line = logged(TextLines(), "%({cookie}i)s %({Set-Cookie}o)s %(f)s %(token)s %(s)d", atoms)
    assert line.endswith(f"{' '.join([REDACTED] * 4)} 200\n")
    assert logged(TextLines(), "%(f)s", {"f": "-"}).endswith(" -\n")


def test_bound_values_that_json_lacks_become_text() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    line = logged(JsonLines(), "x", number=float("nan"), cycle=cycle, raw=b"\xff", odd=object, keys={1: {2, 3}})
    json.loads(line, parse_constant=pytest.fail)


def test_a_line_costs_little_and_a_hostile_one_no_more_than_its_length() -> None:
    begun = time.process_time()
    for text in (
        "code" * 50_000,
        "token " * 30_000,
        'code"' * 40_000,
        "state=" * 30_000,
        "eyJ" * 60_000,
        "\\" * 200_000,
    ):
        redact(text)
        redact("code='" + text)
        redact("authorization" + " " * 10_000 + text)
    assert time.process_time() - begun < 30  # it takes less than one; what grows with the square takes minutes
    ordinary = "upstream gmail: cannot be reached: connection refused; next attempt in 30 s"
    took = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(1000):
            redact(ordinary)
        took.append(time.process_time() - begun)
    assert min(took) < 0.5  # 20 microseconds each, on slow machines 200
