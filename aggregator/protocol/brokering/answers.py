"""What answers of OAuth endpoints have in common: an error, and how long to wait. RFC 6749 5.2, RFC 9110 10.2.3.

This file must not know what was asked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from ..oidc.documents import quotable, read_object

MAX_WAIT = 3600.0  # seconds that we believe of Retry-After

_CODE = re.compile(r"[A-Za-z0-9_.:/-]{1,64}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class OAuthError:
    """`code` is a word of the protocol; `words` are the server's own, cut and cleaned for our log and for nobody else:
    whoever writes them could speak to people, and to their models, in our name."""

    code: str
    words: str = ""

    @property
    def told(self) -> str:
        """Both, for the log."""
        return f"{self.shown}: {self.words}" if self.words else self.shown

    @property
    def shown(self) -> str:
        """For pages and results: no address either, which RFC 6749 8.5 would let a code be."""
        return "an error of its own" if "/" in self.code else quotable(self.code)


def error_of(body: bytes) -> OAuthError | None:
    """The error that a JSON answer names, if it is one."""
    try:
        fields = read_object(body)
    except ValueError:
        return None
    code, words = fields.get("error"), fields.get("error_description")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return None
    return OAuthError(code, quotable(words) if isinstance(words, str) else "")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, from ``Retry-After`` as a number or as a date; at most `MAX_WAIT`. None if it names none."""
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_WAIT)
    try:
        wait = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(wait, 0.0), MAX_WAIT) if math.isfinite(wait) else None
