"""What of our own environment a child process may see: the little that programs need to find their way.

Whatever is not named here stays with us: the secrets of other upstreams, our own,
the database's, a cluster's. The rest is configured, upstream by upstream.
"""

from __future__ import annotations

from collections.abc import Mapping

# Where the person and the programs are, how they speak, where temporary files go.
FOR_SERVERS = frozenset("HOME LANG LANGUAGE LC_ALL LC_CTYPE LC_MESSAGES LOGNAME PATH SHELL TERM TMPDIR TZ USER".split())
# A credential helper acts for the person: it finds their configuration, their agents, their browser, their proxy.
FOR_HELPERS = FOR_SERVERS | frozenset(
    """
    BROWSER DBUS_SESSION_BUS_ADDRESS DISPLAY GNUPGHOME GPG_TTY SSH_AUTH_SOCK WAYLAND_DISPLAY
    XDG_CACHE_HOME XDG_CONFIG_DIRS XDG_CONFIG_HOME XDG_DATA_DIRS XDG_DATA_HOME XDG_RUNTIME_DIR XDG_STATE_HOME
    HTTPS_PROXY HTTP_PROXY NO_PROXY https_proxy http_proxy no_proxy SSL_CERT_DIR SSL_CERT_FILE
    """.split()
)


def child_environment(
    ours: Mapping[str, str], allowed: frozenset[str], configured: Mapping[str, str]
) -> dict[str, str]:
    """`configured`, and of `ours` what is allowed and is not a shell function in disguise (``() {``)."""
    kept = {name: value for name, value in ours.items() if name in allowed and not value.startswith("()")}
    return kept | dict(configured)
