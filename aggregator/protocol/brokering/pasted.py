"""The address that a browser on another machine ended at, pasted by its person: an answer to a login, or not.

This file must not know who asked for it, nor what a code is good for.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from ...errors import Refusal

MAX_PASTED = 12 * 1024  # characters; codes of real servers have up to 2,000


def state_of(pasted: str) -> str:
    """The `state` in a pasted address; empty if it has none."""
    return _parameters(pasted).get("state", "")


def parse_pasted(pasted: str, *, redirect_uri: str, state: str) -> Mapping[str, str]:
    """The parameters of the answer to the login `state`, which came back to `redirect_uri`.

    Line breaks and blanks of the terminal it was copied from are taken out: a URL has none.

    Raises:
        Refusal: 400 if the text is not the whole address of such an answer. It is not quoted.
    """
    text = "".join(pasted.split())
    parameters = _parameters(text)
    if text.partition("?")[0].partition("#")[0] != redirect_uri:
        raise Refusal(
            400, "invalid_request", f"Paste the whole address that the browser ended at; it begins with {redirect_uri}?"
        )
    if not hmac.compare_digest(parameters.get("state", "").encode(), state.encode()):
        raise Refusal(400, "invalid_request", "This address is the answer to another login than the one begun here.")
    if "code" not in parameters and "error" not in parameters:
        raise Refusal(400, "invalid_request", "The address has neither a code nor an error; is it the whole of it?")
    return parameters


def _parameters(pasted: str) -> dict[str, str]:
    """RFC 6749 3.1: no parameter more than once; those that are, count as absent."""
    text = "".join(pasted.split())
    if len(text) > MAX_PASTED:
        return {}
    try:
        pairs = parse_qsl(urlsplit(text).query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return {}
    names = [name for name, _ in pairs]
    return {name: value for name, value in pairs if names.count(name) == 1}
