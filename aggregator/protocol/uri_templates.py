"""URI templates (RFC 6570): which concrete URIs one may have made. Pure text; it does not know whose a template is.

Only membership is asked, never a variable's value, and the answer decides a
route only: whoever made the template judges the URI itself. Templates come from
upstreams and URIs from clients, so the work is bounded and nothing backtracks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_LENGTH = 2048  # characters, of a template and of a URI that is compared with it
MAX_GAPS = 24  # expressions that text separates; real templates have one to four

_EXPRESSION = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A template as texts and the gaps between them: there is one text more than there are gaps, and the first and the
    last may be empty. A gap that is not `wide` holds no slash."""

    texts: tuple[str, ...]
    wide: tuple[bool, ...]

    @property
    def example(self) -> str:
        """A URI that it matches."""
        return "0".join(self.texts)

    def matches(self, uri: str) -> bool:
        """Whether `uri` may be an expansion; an empty value counts, and so do characters that ought to be escaped."""
        if not uri.startswith(self.texts[0]) or not uri.endswith(self.texts[-1]) or len(uri) > MAX_LENGTH:
            return False
        # Where the text so far can end: ranges of places, in order, that share no place.
        ends = [(len(self.texts[0]), len(self.texts[0]))]
        for wide, text in zip(self.wide, self.texts[1:], strict=True):
            reached = [(ends[0][0], len(uri))] if wide else _without_slash(uri, ends)
            ends = list(_after(text, uri, reached))
            if not ends:
                return False
        return ends[-1][1] == len(uri)


def parse_template(text: str) -> Template | None:
    """None for a template that is no template, or larger than any real one."""
    pieces = _EXPRESSION.split(text)
    texts, expressions = pieces[::2], pieces[1::2]
    if len(text) > MAX_LENGTH or any("{" in piece or "}" in piece for piece in texts):
        return None
    merged, wide = [texts[0]], list[bool]()
    for expression, following in zip(expressions, texts[1:], strict=True):
        # RFC 6570, 3.2: without an operator, and with these, a slash in a value is escaped unless a list is exploded.
        is_wide = expression[:1] in ("+", "#", "/", "?", "&") or "*" in expression
        if wide and not merged[-1]:
            wide[-1] = wide[-1] or is_wide
            merged[-1] = following
        else:
            wide.append(is_wide)
            merged.append(following)
    return Template(tuple(merged), tuple(wide)) if len(wide) <= MAX_GAPS else None


def _without_slash(uri: str, ends: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """From each of `ends` on, up to the next slash; where it is reached from several, once."""
    reached: list[tuple[int, int]] = []
    for first, last in ends:
        if reached and first <= reached[-1][1]:
            first = reached[-1][1] + 1
        while first <= last:
            slash = uri.find("/", first)
            stop = len(uri) if slash < 0 else slash
            reached.append((first, stop))
            first = stop + 1
    return reached


def _after(text: str, uri: str, reached: list[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Behind each `text` that begins in one of these ranges."""
    if not text:
        yield from reached
        return
    for first, last in reached:
        while (place := uri.find(text, first, last + len(text))) >= 0:
            yield place + len(text), place + len(text)
            first = place + 1
