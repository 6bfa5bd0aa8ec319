"""Forms as a browser would send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.demo.forms import Button, Form, parse_forms

PAGE = """
<p>words</p><input type="hidden" name="outside" value="1">
<form method="POST" action="/a?b=c&amp;d"><input type="hidden" name="x" value="&lt;&quot;1"><input name="typed">
<p><button name="choice" value="yes">Yes,
   <b>do</b> it</button><button>Leave</button></p></form>
<form><button>Search</button></form>
"""


def test_a_form_has_its_hidden_fields_and_its_buttons() -> None:
    first, second = parse_forms(PAGE)
    assert first == Form(
        "post", "/a?b=c&d", {"x": '<"1'}, (Button("Yes, do it", "choice", "yes"), Button("Leave", None, ""))
    )
    assert second == Form("get", "", {}, (Button("Search", None, ""),))


def test_a_button_adds_its_field_when_it_has_a_name() -> None:
    form = parse_forms(PAGE)[0]
    assert form.press("Yes, do it") == {"x": '<"1', "choice": "yes"}
    assert form.press("Leave") == {"x": '<"1'}


def test_a_button_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(LookupError, match=r"no button 'No'; there are \['Yes, do it', 'Leave'\]"):
        parse_forms(PAGE)[0].press("No")


@given(st.text())
def test_any_text_is_a_page(text: str) -> None:
    parse_forms(text)
