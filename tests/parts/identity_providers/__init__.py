"""Identity providers that other people wrote, each for the length of a block, on a loopback port of its own.

`node` is the certified npm ``oidc-provider`` in its variants, `python` has those
of PyPI, `glewlwyd` and `lemonldap` those of Debian. Each module prepares one and
says in a `Provider` how somebody logs in there.
"""

from __future__ import annotations

from .provider import Provider

__all__ = ["Provider"]
