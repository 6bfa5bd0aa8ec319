"""URI templates (RFC 6570): which concrete URIs one may have made. Pure text; it does not know whose a template is.

Only membership is asked, never a variable's value, and the answer decides a
route only: whoever made the template judges the URI itself. Templates and URIs
come from upstreams and clients, so each comparison is one walk along the URI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LENGTH = 2048  # characters, of a template and of a URI that is compared with it

_EXPRESSION = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A template as texts and the gaps between them: there is one text more than there are gaps, and the first and the
    last may be empty. The first `narrow` gaps hold no slash."""

    texts: tuple[str, ...]
    narrow: int

    @property
    def example(self) -> str:
        """A URI that it matches."""
        return "0".join(self.texts)

    def matches(self, uri: str) -> bool:
        """Whether `uri` may be an expansion; an empty value counts, and so do characters that ought to be escaped.

        The earliest place of each text will do: as long as no gap holds a slash, all places lie in one segment, and
        from the earliest as much can be reached as from any other; later gaps reach everything.
        """
        head, *texts = self.texts
        if not uri.startswith(head) or len(uri) > MAX_LENGTH:
            return False
        if not texts:
            return uri == head
        *inner, tail = texts
        place = len(head)
        for number, text in enumerate(inner):
            last = _next_slash(uri, place) if number < self.narrow else len(uri)
            found = uri.find(text, place, last + len(text))
            if found < 0:
                return False
            place = found + len(text)
        rest = len(uri) - len(tail)
        last = _next_slash(uri, place) if len(inner) < self.narrow else len(uri)
        return uri.endswith(tail) and place <= rest <= last


def parse_template(text: str) -> Template | None:
    """None for a template that is no template, or longer than any real one.

    RFC 6570, 3.2: in the value of an expression without an operator a slash is escaped, unless a list is exploded.
    What stands behind an expression that may hold one is taken not to mind slashes either.
    """
    pieces = _EXPRESSION.split(text)
    texts, expressions = pieces[::2], pieces[1::2]
    if len(text) > MAX_LENGTH or any("{" in piece or "}" in piece for piece in texts):
        return None
    merged, wide = [texts[0]], list[bool]()
    for expression, following in zip(expressions, texts[1:], strict=True):
        is_wide = expression[:1] in ("+", "#", "/", "?", "&") or "*" in expression
        if wide and not merged[-1]:  # two expressions side by side are one gap
            wide[-1] = wide[-1] or is_wide
            merged[-1] = following
        else:
            wide.append(is_wide)
            merged.append(following)
    return Template(tuple(merged), wide.index(True) if True in wide else len(wide))


def _next_slash(uri: str, place: int) -> int:
    slash = uri.find("/", place)
    return len(uri) if slash < 0 else slash
