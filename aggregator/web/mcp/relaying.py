"""One request of a person on its way to one upstream, and what the person's client is given for its answer.

The deadline around upstream work is set here and nowhere below. Whatever goes
wrong with an upstream becomes words that its reader can act on: which upstream,
why, after how long. What a method means is not known here, but for the names of
the few that differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from ...config.model import AnyUpstream
from ...errors import ConnectNeeded, UpstreamLost, UpstreamRefused
from ...protocol import jsonrpc
from ...protocol.jsonrpc import Failure, Json, Success
from ...protocol.links import Publish, with_published_links
from ...protocol.older_content import for_older_client
from ...protocol.translate import error_for_client, failed, result_for_client
from ...upstream.listings import Listings, View, why_refused
from ...upstream.peers import Answered
from .asked import Asked
from .asking import Asking, Declined
from .conversing import Conversing, Tell

# What an upstream says with these is about the request that we made. A client would take them for its own: a 404 for
# `tools/call`, a reason to fall back to an older revision.
_ABOUT_US = frozenset(
    {
        jsonrpc.PARSE_ERROR,
        jsonrpc.INVALID_REQUEST,
        jsonrpc.METHOD_NOT_FOUND,
        jsonrpc.HEADER_MISMATCH,
        jsonrpc.UNSUPPORTED_VERSION,
    }
)
_DOING = {
    "tools/call": "calling",
    "prompts/get": "getting",
    "resources/read": "reading",
    "completion/complete": "completing",
}


@dataclass(frozen=True, slots=True)
class Errand:
    """What is asked of which upstream. `subject` is the published name or URI, for words; `params` are in the
    upstream's own. `publish` is how URIs in its answer are shown, None if they stay."""

    upstream: str
    subject: str
    params: Json
    headers: tuple[tuple[str, str], ...] = ()
    publish: Publish | None = None


class Relaying:
    """Runs errands. `calls` counts what each person has running, by key."""

    def __init__(self, listings: Listings, asking: Asking, conversing: Conversing, *, calls_per_person: int) -> None:
        self._listings = listings
        self._upstreams = listings.upstreams()
        self._asking = asking
        self._conversing = conversing
        self._calls_per_person = calls_per_person
        self.calls: dict[str, int] = {}

    async def for_person(
        self, asked: Asked, work: Callable[[Asked], Awaitable[Success | Failure]]
    ) -> Success | Failure:
        """Do `work` unless the person has too much running. A retry that we asked for is given to it as the request
        that it repeats."""
        key = asked.principal.key
        if self.calls.get(key, 0) >= self._calls_per_person:
            text = f"You have {self._calls_per_person} calls running already; wait for one of them to end."
            return failed(asked.call, text, asked.revision)
        self.calls[key] = self.calls.get(key, 0) + 1
        try:
            resumed = await self._asking.resume(asked)
            if isinstance(resumed, Declined):
                text = f"The person did not want to connect {resumed.upstream}, so nothing was run."
                return failed(asked.call, text, asked.revision)
            return await work(resumed)
        finally:
            self.calls[key] -= 1
            if not self.calls[key]:
                del self.calls[key]

    async def run(self, asked: Asked, view: View, errand: Errand, tell: Tell) -> Success | Failure:
        """The upstream's answer in the client's revision, or words that say why there is none."""
        upstream = self._upstreams.get(errand.upstream)
        if upstream is None:  # since it was looked for, another configuration was loaded
            text = f"Upstream {errand.upstream} is no longer configured; {_nothing_done(asked)}."
            return failed(asked.call, text, asked.revision)
        config, started = upstream.config, trio.current_time()
        cause: str
        try:
            answered = await self._conversing.request(
                asked, upstream, errand.params, tell, errand.headers, timeout=config.tool_timeout
            )
            return self._answer_of(asked, view, errand, answered)
        except trio.TooSlowError:
            within = f"toolTimeout ({config.tool_timeout:g} s)"
            cause = f"no answer within {within}; it was told to stop and may have run in part"
        except ConnectNeeded as exc:
            return self._asking.ask(asked, config, str(exc))
        except UpstreamRefused as exc:
            cause = why_refused(exc)
        except UpstreamLost as exc:
            cause = f"{exc}{_perhaps_done(asked)}" if exc.executed else f"{exc}; {_nothing_done(asked)}"
        return failed(asked.call, error_text(asked, errand.subject, config, cause, started), asked.revision)

    def absent(self, asked: Asked, view: View, name: str, started: float) -> Success | Failure | None:
        """The answer to a request for the published `name` if it probably belongs to an upstream that could never be
        listed: why, or how to connect an account there. None if there is no such upstream."""
        listing = self._listings.absent(view, name)
        if listing is None:
            return None
        if listing.needs_login:
            return self._asking.ask(asked, listing.config, listing.error or "it asks for a login")
        what = "tools" if asked.call.method == "tools/call" else "prompts"
        cause = f"{listing.error}; its {what} are not known yet, so nothing was run"
        return failed(asked.call, error_text(asked, name, listing.config, cause, started), asked.revision)

    def _answer_of(self, asked: Asked, view: View, errand: Errand, answered: Answered) -> Success | Failure:
        """Raises:
        UpstreamLost: for an answer that the client cannot be given.
        """
        match answered.outcome:
            case Failure(_, error) as refused:
                if refused.code == jsonrpc.HEADER_MISMATCH:
                    self._listings.doubt(view, errand.upstream)  # its schema has changed, and the headers with it
                if refused.code in _ABOUT_US:
                    raise UpstreamLost(f"refused our request: {refused.message[:200]} ({refused.code})", executed=False)
                shown = error_for_client(error, asked.call.method, answered.revision, asked.revision, errand.subject)
                return Failure(asked.call.id, shown)
            case Success(_, result):
                translated = result_for_client(result, answered.revision, asked.revision, asked.call.method)
                if translated is None:
                    kind = str(result.get("resultType"))[:40]
                    raise UpstreamLost(
                        f"answered with a result of type '{kind}', which this client cannot be given yet"
                    )
                if errand.publish is not None:
                    translated = with_published_links(asked.call.method, translated, errand.publish)
                # A client without a version header may be older than the revision that this stands for.
                agreed = asked.session.revision if asked.session is not None else asked.revision
                return Success(asked.call.id, for_older_client(asked.call.method, translated, agreed))


def error_text(asked: Asked, subject: str, config: AnyUpstream, cause: str, started: float) -> str:
    elapsed = trio.current_time() - started
    doing = _DOING.get(asked.call.method, "asking for")
    return f"Error {doing} {subject[:200]}: upstream {config.name}: {cause} (after {elapsed:.1f} s)"


def _perhaps_done(asked: Asked) -> str:
    """What a model has to know before it tries again."""
    return "; the tool may have run" if asked.call.method == "tools/call" else ""


def _nothing_done(asked: Asked) -> str:
    return "the tool was not run" if asked.call.method == "tools/call" else "nothing was run"
