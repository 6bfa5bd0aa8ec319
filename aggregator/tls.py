"""TLS on our own listener: the context that Hypercorn gets, and the certificate in it when its files change.

This file owns the version and what is offered; it must not know what is served. Certificates live 90 days and less,
and whoever renews them (cert-manager, certbot) replaces files: new connections get the new one without a restart.
"""

from __future__ import annotations

import logging
import ssl

from .config.certificates import check_pair
from .config.model import Tls
from .config.scalars import Wrong
from .watched_files import WatchedFiles, look

LOOK_INTERVAL = 10.0  # seconds

log = logging.getLogger(__name__)


def make_server_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 and later, HTTP/1.1 only: HTTP/2 is not guarded (see web/hypercorn/guard.py)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    return context


async def watch_certificate(tls: Tls, context: ssl.SSLContext) -> None:
    """Give `context` the new certificate whenever a file has changed, until cancelled.

    A pair that cannot be used leaves the old one in place and is told once.
    """
    files = (tls.cert_file, tls.key_file)
    watched = WatchedFiles(files, LOOK_INTERVAL, known=look(files))
    while True:
        await watched.wait_changed()
        try:
            # Checked apart: a pair that does not fit would leave the context with half of each.
            check_pair(tls.cert_file, tls.key_file)
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")
        except (Wrong, OSError) as exc:
            log.error("tls: changed, but cannot be used: %s. The certificate stays as it was", exc)
        else:
            log.info("tls: %s is read again after a change", tls.cert_file)
