"""What an excerpt may show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aggregator.config.document import parse_document
from aggregator.config.mask import SHOWN, mask_document
from aggregator.config.schema import json_schema


def masked(text: str) -> str:
    return mask_document(parse_document(text))


def test_known_and_harmless_values_are_shown_others_blanked() -> None:
    text = """\
auth: {issuer: https://i.example.com, clientSecret: "abc", allow: {hd: x.com}}  # was: old
upstreams:
  - {name: a, url: https://u:p@a.example.com/mcp?k=v, headers: {X: y}, custom: z}
secret: |
  two
  lines
port: 3000
"""
    assert (
        masked(text)
        == """\
auth: {issuer: https://i.example.com, clientSecret: *****, allow: {hd: x.com}}  * **** ***
upstreams:
  - {name: a, url: https://***@a.example.com/mcp?***, headers: {X: *}, custom: *}
secret: *
  ***
  *****
port: 3000
"""
    )


def test_a_text_without_structure_hides_lines_that_speak_of_secrets_and_the_next() -> None:
    assert masked('port: 1\nsecret:\n  "abc\nhost: x\n') == "port: 1\n*******\n  ****\nhost: x\n"


def test_a_text_without_structure_hides_items_whose_key_may_be_far_above() -> None:
    assert masked('a: "\ncommand:\n  - x\n  - y\n  - hunter2\n') == 'a: "\n********\n  * *\n  * *\n  * *******\n'


def test_a_hash_inside_a_value_is_no_comment() -> None:
    assert masked("url: https://a.example.com/#x\n") == "url: https://a.example.com/#x\n"


@given(st.text(max_size=80))
def test_every_character_keeps_its_place(text: str) -> None:
    for candidate in (text, f"secret: {text}", f'{{"a": "{text}"}}'):
        document = parse_document(candidate)
        shown = mask_document(document)
        assert len(shown) == len(document.text)
        assert [len(line) for line in shown.splitlines()] == [len(line) for line in document.text.splitlines()]


def test_only_keys_of_the_vocabulary_are_shown() -> None:
    schema = json_schema()
    known = set(schema["properties"])
    for part in schema["$defs"].values():
        known |= set(part["properties"])
    assert known >= SHOWN
    assert not {"secret", "clientSecret", "headers", "env", "listen", "outbound"} & SHOWN
