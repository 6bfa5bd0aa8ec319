"""Which of the two forms of an answer a client would rather have (RFC 9110 12.5.1, Accept).

The SDKs name both and mean "as you like", JSON first. A client that weighs the event
stream higher, or names it first, gets one from the start. What cannot be read counts
as not said. Whether an answer may be sent at all is not asked here.
"""

from __future__ import annotations

from functools import lru_cache

EVENTS, JSON = "text/event-stream", "application/json"

_NOWHERE = 10**6


@lru_cache(maxsize=64)  # the programs in front of us are few, and each says the same every time
def prefers_events(accept: str) -> bool:
    """Whether an event stream is preferred to JSON: by weight, and among equals by what is named first."""
    ranges = [_parse(part) for part in accept.split(",")]
    events, json = _best(ranges, EVENTS), _best(ranges, JSON)
    return events[0] > 0 and (-events[0], events[1]) < (-json[0], json[1])


def _best(ranges: list[tuple[str, float]], wanted: str) -> tuple[float, int]:
    """Weight and place of the most specific range that has `wanted`; nothing and nowhere if none has."""
    for name in (wanted, f"{wanted.partition('/')[0]}/*", "*/*"):
        for place, (kind, weight) in enumerate(ranges):
            if kind == name:
                return weight, place
    return 0.0, _NOWHERE


def _parse(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return kind, _weight(value.strip())
    return kind, 1.0


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 1.0
