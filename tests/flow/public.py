"""A server on this machine that the gateway takes for one of the public internet, by its name; nothing else of it is.

Half of this runs in the gateway's own process: one address counts as public, names lead there, and port 443 is the
server's own. Everything in between is the real thing: guard, TLS and its certificates, redirects, limits.
"""

import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gateway.upstream import guard, host_lookup

# Of this machine, and of nobody else on it.
ADDRESS = "127.77.7.7"
NAME, OTHER_NAME = "pictures.example", "more.pictures.example"
MOST_WAIT = 30.0


def pretend(port: str) -> None:
    """In the process of a gateway, before it connects anywhere."""
    is_public, resolved, lookup = guard.is_public, guard._resolved, host_lookup.SystemLookup.__call__

    async def led(self: host_lookup.SystemLookup, host: str) -> Sequence[str]:
        return [ADDRESS] if host in (NAME, OTHER_NAME) else await lookup(self, host)

    def with_its_port(host: str, address: str, asked: int) -> Any:
        return resolved(host, address, int(port) if address == ADDRESS else asked)

    guard.is_public = lambda address: address == ADDRESS or is_public(address)
    guard._resolved = with_its_port
    host_lookup.SystemLookup.__call__ = led  # type: ignore[method-assign]


class Web:
    """What stands at which path: a status, headers and pieces of a body. `asked`: how often each was asked for."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.port = port
        self.certificate = certificate
        self.asked: Counter[str] = Counter()
        self.pages: dict[str, tuple[int, dict[str, str], list[bytes | None]]] = {}
        self.over = threading.Event()

    def url(self, path: str, name: str = NAME) -> str:
        return f"https://{name}{path}"

    def put(self, path: str, *pieces: bytes | None, status: int = 200, **headers: str) -> str:
        """None among the pieces: nothing more comes for a while, and nobody says how much it is. Answers with its
        address."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        whole = None if None in pieces else sum(len(piece) for piece in pieces if piece)
        named = {**({"connection": "close"} if whole is None else {"content-length": str(whole)}), **named}
        self.pages[path] = status, named, list(pieces)
        return self.url(path)

    def environ(self) -> dict[str, str]:
        """What leads a gateway here."""
        return {"FLOW_PUBLIC": str(self.port), "SSL_CERT_FILE": str(self.certificate)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    web: Web

    def handle_error(self, *_: object) -> None:
        """Clients that leave in the middle are what this is for."""


class _Answering(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        web = self.server.web
        web.asked[self.path] += 1
        status, headers, pieces = web.pages.get(self.path, (404, {"content-length": "0"}, []))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in pieces:
            if piece is None:
                web.over.wait(MOST_WAIT)
            else:
                self.wfile.write(piece)

    def log_message(self, *_: object) -> None:
        """Tests look at `asked`."""


@contextmanager
def serving(folder: Path) -> Iterator[Web]:
    certificate = _certificate(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, folder / "key.pem")
    with _Server((ADDRESS, 0), _Answering) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.web = Web(server.server_address[1], certificate)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.web
        finally:
            server.web.over.set()
            server.shutdown()
            thread.join()


def _certificate(folder: Path) -> Path:
    """For both names, signed by itself."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},DNS:{OTHER_NAME}"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "certificate.pem"
