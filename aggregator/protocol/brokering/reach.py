"""Which of the URLs that an upstream leads us to may be used for that upstream, and by which way.

What the operator configured is reached as configured: the upstream's own host
and that of a configured authorization server, in a private network and over
plain http if they said so. Everything else is a stranger's word: public https,
unless the operator opened private networks to this upstream. Nothing learned for
one upstream counts for another. This file must not know what a URL is for.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from ..learned_url import LearnedUrl, NotPlainUrl, parse_learned_url


@dataclass(frozen=True, slots=True)
class Destination:
    """`is_inside`: reached over the operator's own network, with the operator's own authorities; else as a stranger."""

    url: LearnedUrl
    is_inside: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """What one upstream's URLs may lead to. `configured` are the URLs that the operator wrote for it."""

    configured: tuple[str, ...]
    allow_private_network: bool = False

    def destination(self, text: str) -> Destination:
        """The way to the URL `text`.

        Raises:
            NotPlainUrl: if it may not be used for this upstream; the message begins with a verb and quotes nothing.
        """
        url = parse_learned_url(text, inside=True)
        if self.allow_private_network or any(_is_at(url, own) for own in self.configured):
            return Destination(url, is_inside=True)
        return Destination(parse_learned_url(text), is_inside=False)

    def is_allowed(self, text: str) -> bool:
        try:
            self.destination(text)
        except NotPlainUrl:
            return False
        return True


def is_public_https(text: str) -> bool:
    """Whether a stranger's server could fetch this URL of ours, as far as its text tells."""
    try:
        url = parse_learned_url(text)
    except NotPlainUrl:
        return False
    host = url.host.rstrip(".").lower()
    if host.startswith("["):
        return ipaddress.ip_address(host[1:-1]).is_global
    if host.replace(".", "").isdigit():
        return ipaddress.ip_address(host).is_global
    return "." in host and not host.endswith((".localhost", ".local", ".internal", ".test", ".home.arpa"))


def _is_at(url: LearnedUrl, configured: str) -> bool:
    """Whether `url` is at the configured host and port; on this computer, whatever its names and ports.

    https where the operator wrote http is no less; http where they wrote https is (RFC 9700 4.1: downgrade).
    """
    try:
        own = parse_learned_url(configured.partition("#")[0], inside=True)
    except NotPlainUrl:
        return False  # an address that is not plain ASCII vouches for no other
    if own.is_loopback:
        return url.is_loopback
    return (
        url.host.lower() == own.host.lower()
        and url.port == own.port
        and (url.scheme == "https" or own.scheme == "http")
    )
