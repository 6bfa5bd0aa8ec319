"""What a person could press on a page: its forms, with their hidden fields and buttons.

Pure. It must not know whose page it is, so that a walk through the pages shows
what a browser would send and not what we know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass(frozen=True, slots=True)
class Button:
    """A submit button: its words, and the field it adds when pressed, if it has a name."""

    label: str
    name: str | None
    value: str


@dataclass(frozen=True, slots=True)
class Form:
    """One form: where it goes, what it carries, what can be pressed."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: tuple[Button, ...] = ()

    def press(self, label: str) -> dict[str, str]:
        """The fields that pressing the button with these words sends.

        Raises:
            LookupError: naming the buttons there are.
        """
        for button in self.buttons:
            if button.label == label:
                return {**self.fields, **({button.name: button.value} if button.name else {})}
        raise LookupError(f"no button '{label}'; there are {[button.label for button in self.buttons]}")


def parse_forms(html: str) -> tuple[Form, ...]:
    """Every form of a page."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return tuple(reader.forms)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._target: tuple[str, str] | None = None
        self._fields: dict[str, str] = {}
        self._buttons: list[Button] = []
        self._button: tuple[str | None, str] | None = None
        self._label = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._target = (given.get("method", "get").lower(), given.get("action", ""))
            self._fields, self._buttons = {}, []
        elif self._target is None:
            return
        elif tag == "input" and given.get("type") == "hidden" and "name" in given:
            self._fields[given["name"]] = given.get("value", "")
        elif tag == "button":
            self._button, self._label = (given.get("name"), given.get("value", "")), ""

    def handle_data(self, data: str) -> None:
        if self._button is not None:
            self._label += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "button" and self._button is not None:
            self._buttons.append(Button(" ".join(self._label.split()), *self._button))
            self._button = None
        elif tag == "form" and self._target is not None:
            self.forms.append(Form(*self._target, self._fields, tuple(self._buttons)))
            self._target = None
