"""What can go wrong, named by whose fault it is.

This file owns the exceptions that cross a room's wall. It must not know who
raises or answers them: words and statuses travel inside the exception.
"""

from __future__ import annotations

from dataclasses import dataclass


class AggregatorError(Exception):
    """Base of every exception this package raises on purpose."""


class Refusal(AggregatorError):
    """We say no to the one in front of us.

    `status` is an HTTP status, `error` a code of the RFC in force (such as
    ``invalid_grant``), `description` one plain sentence for the caller. None of
    them may hold a token, a code or a secret.
    """

    def __init__(self, status: int, error: str, description: str, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{status} {error}: {description}")
        self.status = status
        self.error = error
        self.description = description
        self.headers = headers


class Unsealable(AggregatorError):
    """A text that claims to be one of our sealed tokens is not, or no longer."""


class UpstreamLost(AggregatorError):
    """An upstream cannot be reached, broke off, timed out or spoke garbage.

    The text says what happened in words fit for an operator and for a model.
    `executed` is False when the request certainly never ran, `absent` is True if it
    never got as far as that since nobody listened there. `cause` is the text without
    `moment`, which is what differs each time that one asks.
    """

    def __init__(self, cause: str, *, executed: bool = True, absent: bool = False, moment: str = "") -> None:
        super().__init__(f"{cause}; {moment}" if moment else cause)
        self.cause = cause
        self.executed = executed
        self.absent = absent


class UpstreamRefused(AggregatorError):
    """An upstream answered, and its answer is no: an HTTP status of 300 or more.

    `challenge` is its WWW-Authenticate as it came, empty if there was none.
    """

    def __init__(self, status: int, cause: str, *, retry_after: float | None = None, challenge: str = "") -> None:
        super().__init__(cause)
        self.status = status
        self.retry_after = retry_after
        self.challenge = challenge


class ConnectFailed(UpstreamLost):
    """An upstream's authorization server cannot be used now, or says no.

    The text is for the person who connects and for the operator; it holds no secret, and does not tell one
    unreachable host from another. `temporary` tells whether the same may succeed later, unchanged.
    """

    def __init__(self, cause: str, *, temporary: bool = False) -> None:
        super().__init__(cause, executed=False)
        self.temporary = temporary


class ConnectNeeded(AggregatorError):
    """A person has to connect their own account at `upstream` before this can be done for them.

    The text says why, in words for that person and their model; it holds no secret and no URL.
    """

    def __init__(self, upstream: str, reason: str) -> None:
        super().__init__(reason)
        self.upstream = upstream


class IdentityProviderUnavailable(AggregatorError):
    """The identity provider cannot be reached or does not speak OpenID Connect now."""


class LoginRefused(AggregatorError):
    """The identity provider, or our own rule of who may log in, says no to this person."""


class Unfetchable(AggregatorError):
    """A document at a URL that somebody else gave us cannot be had.

    The text is the true cause, for the log alone: told outside, it would make us a scanner of networks.
    """


class StoreUnavailable(AggregatorError):
    """What we must remember cannot be read or written now."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration: where, what was found, what was expected, what to do."""

    path: str
    message: str
    line: int | None = None
    column: int | None = None
    suggestion: str | None = None


class ConfigError(AggregatorError):
    """The operator's configuration cannot be used; `problems` lists everything wrong with it, in file order.

    `text` is the file with its secrets blanked, for excerpts; empty when there is none.
    """

    def __init__(self, source: str, problems: tuple[Problem, ...], *, text: str = "") -> None:
        super().__init__(f"{source}: {len(problems)} problem(s)")
        self.source = source
        self.problems = problems
        self.text = text
