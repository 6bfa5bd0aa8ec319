"""Who may knock: `Host` and `Origin` against what the operator configured.

Both headers are compared and never used to build anything. The lists come from
the configuration alone. This file knows no path and no token.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from ..config.model import Config
from ..errors import Refusal

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?", re.ASCII)
DEFAULT_PORTS = {"http": 80, "https": 443}


class Gate:
    """The hosts and origins of one deployment. A loopback `issuerUrl` answers to every loopback name."""

    def __init__(self, config: Config) -> None:
        issuer = urlsplit(config.issuer_url)
        name = issuer.netloc.lower().removesuffix(f":{issuer.port}")
        names = LOOPBACK if name in LOOPBACK else (name,)
        usual = DEFAULT_PORTS.get(issuer.scheme)
        port = issuer.port or usual
        self._hosts = {f"{host}:{port}" for host in names} | {host.lower() for host in config.allowed_hosts}
        self._origins = {f"{issuer.scheme}://{host}:{port}" for host in names}
        if port == usual:  # RFC 9110 4.2.3: the default port may be written or not
            self._hosts |= set(names)
            self._origins |= {f"{issuer.scheme}://{host}" for host in names}
        self._origins |= {origin.lower().rstrip("/") for origin in config.allowed_origins}
        own = {name, f"{name}:{port}"}
        self._aliases = self._hosts - own - {host.lower() for host in config.allowed_hosts}
        self._home = f"{issuer.scheme}://{issuer.netloc}"
        self._issuer_url = config.issuer_url
        # Local mode for other machines as well: they name ours by an address of it, and we have many.
        self._takes_addresses = config.listen.token is not None or config.listen.allow_unauthenticated

    def check_host(self, host: str | None) -> None:
        """DNS rebinding: a page of a foreign name must not reach us (TR1). An address is no name that could be rebound.

        Raises:
            Refusal: 421 for a host that is not ours, 400 for none.
        """
        if host is None:
            raise Refusal(400, "invalid_request", "The request names no Host.")
        if host.lower() not in self._hosts and not (self._takes_addresses and _is_address(host)):
            raise Refusal(
                421,
                "invalid_request",
                f"This server is {self._issuer_url} and does not answer to the Host of this request; "
                "use that URL. If people know it by another, set issuerUrl to that; more hosts go to allowedHosts.",
            )

    def home_of_pages(self, host: str) -> str | None:
        """The origin at which a person has to look whose browser came by another name of this computer, else None.

        A browser keeps cookies for one name, and logins come back to that of `issuerUrl`: one that began under another
        name would end in a browser that knows nothing of it. `allowedHosts` are left alone: a proxy may have written
        them, and would bring the person here again.
        """
        return self._home if host.lower() in self._aliases else None

    def check_origin(self, origin: str | None) -> None:
        """2026-07-28, streamable HTTP, security: "Servers MUST validate the Origin header"; programs send none.

        Raises:
            Refusal: 403 for the origin of a page that is neither ours nor allowed.
        """
        if origin is not None and not self.is_known_origin(origin):
            raise Refusal(
                403, "invalid_request", "Pages of this origin may not call this server; add it to allowedOrigins."
            )

    def is_known_origin(self, origin: str) -> bool:
        return origin.lower() in self._origins


def _is_address(host: str) -> bool:
    """Whether a Host names an IP address, with a port or without."""
    found = _ADDRESS.fullmatch(host)
    if found is None:
        return False
    try:
        ipaddress.ip_address(found[1] or found[2])
    except ValueError:
        return False
    return True
