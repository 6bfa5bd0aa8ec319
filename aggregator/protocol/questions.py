"""What a server may ask of a client in the middle of a call, and who can be asked it. Pure.

Elicitation, sampling and roots: an older server sends a request of its own, one of
2026-07-28 answers ``input_required``. This file knows the shapes of both and how
one becomes the other; who waits for whom is not its affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .jsonrpc import MISSING_CAPABILITY, Call, Failure, Id, Json, failure
from .revisions import HANDSHAKE, is_stateless

ELICIT, SAMPLE, ROOTS = "elicitation/create", "sampling/createMessage", "roots/list"
URL_REQUIRED = -32042  # 2025-11-25; 2026-07-28 took it away
EVERYTHING: Json = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}  # as capabilities
# 2026-07-28, multi round-trip requests: only these may be answered with `input_required`.
WITH_ROUNDS = frozenset({"tools/call", "prompts/get", "resources/read"})
_URL_KEY = "open-url-"
_CAPABILITY = {ELICIT: "elicitation", SAMPLE: "sampling", ROOTS: "roots"}


def askable(capabilities: Json) -> Json:
    """The part of a client's `capabilities` by which it says what a server may ask."""
    shown: Json = {}
    if not capabilities:
        return shown
    for name in sorted(_CAPABILITY.values()):
        if isinstance(value := capabilities.get(name), dict):
            # Roots that change are announced between calls, where nobody of ours listens for the server.
            shown[name] = {key: part for key, part in value.items() if (name, key) != ("roots", "listChanged")}
    return shown


def can_ask(method: str) -> bool:
    """Whether this is a question of the revisions that we know."""
    return method in _CAPABILITY


def missing_capability(method: str, params: Json, capabilities: Json) -> Json | None:
    """The capability that a client lacks to be asked this, as ``requiredCapabilities`` has it; None if it can be."""
    name = _CAPABILITY.get(method)
    if name is None:
        return {}
    held = capabilities.get(name)
    if method == ELICIT:
        # An empty capability stands for forms (2025-11-25, elicitation: "equivalent to declaring support for form").
        mode = params.get("mode", "form")
        if isinstance(held, dict) and (mode in held or (mode == "form" and not held)):
            return None
        return {name: {str(mode): {}}}
    if method == SAMPLE and params.get("tools") and not (isinstance(held, dict) and "tools" in held):
        return {name: {"tools": {}}}
    return None if isinstance(held, dict) else {name: {}}


def input_requests(result: Json) -> Mapping[str, Json]:
    """The questions of an ``input_required`` result, by key; what is malformed is left out."""
    found = result.get("inputRequests")
    if not isinstance(found, dict):
        return {}
    return {
        key: question
        for key, question in found.items()
        if isinstance(question, dict) and isinstance(question.get("method"), str)
    }


def cannot_be_asked(id: Id, result: Json, capabilities: Json) -> Failure | None:
    """The refusal of an ``input_required`` result that asks what the client did not offer to answer.

    2026-07-28, mrtr: only the kinds that the client declared may be asked; -32021 names what is missing.
    """
    missing: Json = {}
    for question in input_requests(result).values():
        lacked = missing_capability(question["method"], _params(question), capabilities)
        if lacked is not None:
            missing |= lacked
    if not missing:
        return None
    return failure(
        id,
        MISSING_CAPABILITY,
        f"This needs a client that supports {', '.join(sorted(missing)) or 'questions of another kind'}.",
        {"requiredCapabilities": missing},
    )


def question_for_upstreams_peer(question: Call) -> Json:
    """An older server's request as an entry of ``inputRequests``."""
    return {"method": question.method, "params": _without_token(question.params)}


def urls_to_open(error: Json) -> list[Json]:
    """What a person has to open before the request can be done, of error -32042 (2025-11-25); each has message and URL.

    Empty for every other error.
    """
    data = error.get("data")
    found = data.get("elicitations") if isinstance(data, dict) and error.get("code") == URL_REQUIRED else None
    return [
        one
        for one in (found if isinstance(found, list) else [])
        if isinstance(one, dict) and isinstance(one.get("url"), str) and isinstance(one.get("message"), str)
    ]


def ask_for_urls(urls: list[Json]) -> Json:
    """The same in the words of 2026-07-28, which has no such error."""
    requests = {
        f"{_URL_KEY}{number}": {"method": ELICIT, "params": {"mode": "url", **_without_id(one)}}
        for number, one in enumerate(urls)
    }
    return {"resultType": "input_required", "inputRequests": requests}


def is_declined(params: Json) -> bool:
    """Whether the retry says that the person did not open what `ask_for_urls` asked them to."""
    answers = params.get("inputResponses")
    return isinstance(answers, dict) and any(
        key.startswith(_URL_KEY) and isinstance(answer, dict) and answer.get("action") in ("decline", "cancel")
        for key, answer in answers.items()
    )


def params_for_client(question: Json, revision: str, elicitation_id: str) -> Json:
    """The parameters of a question to a client of `revision`, which has handshakes.

    A URL needs an id there (2025-11-25); revisions before know forms only, and no word for it.
    """
    params = _without_token(_params(question))
    if question["method"] != ELICIT or is_stateless(revision):
        return params
    if params.get("mode") == "url":
        return {"elicitationId": elicitation_id, **params}
    return params if revision == HANDSHAKE else {key: value for key, value in params.items() if key != "mode"}


def _without_id(elicitation: Json) -> Json:
    return {key: value for key, value in elicitation.items() if key not in ("mode", "elicitationId")}


def _params(question: Json) -> Json:
    params: Any = question.get("params")
    return params if isinstance(params, dict) else {}


def _without_token(params: Json) -> Json:
    """A question's progress token is its server's; nobody could route what would come back under it."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or "progressToken" not in meta:
        return params
    kept = {key: value for key, value in meta.items() if key != "progressToken"}
    rest = {key: value for key, value in params.items() if key != "_meta"}
    return {**rest, "_meta": kept} if kept else rest
