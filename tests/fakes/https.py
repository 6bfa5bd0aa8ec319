"""An https server on loopback with an authority of its own, answering what the test says, and remembering who asked."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = ("localhost", "127.0.0.1", "::1", "client.example")
_YEAR = datetime.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Authority:
    """Files in PEM: the authority's certificate for clients, a chain and key for a server."""

    authority: Path
    chain: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


def make_authority(folder: Path, names: tuple[str, ...] = NAMES, *, valid_for: datetime.timedelta = _YEAR) -> Authority:
    """A new one, and a server's certificate of it, for `names`; it has ended where `valid_for` is negative."""
    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of a test")])
    now = datetime.datetime.now(datetime.UTC)
    root = (
        x509.CertificateBuilder()
        .subject_name(root_name)
        .issuer_name(root_name)
        .public_key(root_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _YEAR)
        .not_valid_after(now + _YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
        .issuer_name(root_name)
        .public_key(leaf_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _YEAR)
        .not_valid_after(now + valid_for)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    made = Authority(folder / "authority.pem", folder / "chain.pem", folder / "key.pem")
    made.authority.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    made.chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


Behaviour = Callable[[trio.SSLStream[trio.SocketStream]], Awaitable[None]]


@dataclass
class HttpsServer:
    """`requests` are the heads received; `sni` the names that TLS was asked for. `behave` answers one connection."""

    port: int
    behave: Behaviour
    requests: list[str] = field(default_factory=list)
    sni: list[str | None] = field(default_factory=list)
    connections: int = 0

    def answer(self, body: bytes, *headers: str, status: str = "200 OK", kind: str = "application/json") -> None:
        """From now on: this answer to every request."""
        lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers, "", ""]
        self.behave = partial(_say, "\r\n".join(lines).encode() + body)

    async def serve(self, connection: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.connections += 1
        stream = trio.SSLStream(connection, context, server_side=True, https_compatible=True)
        try:
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    more = await stream.receive_some(65536)
                    if not more:
                        return
                    head += more
                self.requests.append(head.decode("latin-1"))
                await self.behave(stream)
        except trio.BrokenResourceError:
            pass  # the other side has had enough; that is what some tests are about


async def _say(data: bytes, stream: trio.SSLStream[trio.SocketStream]) -> None:
    await stream.send_all(data)


@asynccontextmanager
async def open_https_server(authority: Authority, body: bytes = b"{}") -> AsyncIterator[HttpsServer]:
    """On 127.0.0.1, at a port of its own; answers `body` as JSON until told otherwise."""
    context = authority.server_context()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = HttpsServer(listeners[0].socket.getsockname()[1], partial(_say, b""))
    server.answer(body)
    context.sni_callback = lambda _socket, name, _context: server.sni.append(name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, partial(server.serve, context=context), listeners)
        yield server
        nursery.cancel_scope.cancel()
