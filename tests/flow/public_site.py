"""An HTTPS server on this machine that the gateway treats as a public host.

`patch_public_internet` runs in the gateway's process: one address counts as public, two names resolve to it, and its
port 443 is the server's port. Address guard, TLS, certificates, redirects and limits are the product's.
"""

import json
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gateway.upstream import address_guard, dns_lookup
from tests.flow.flow_config import GatewaySetup
from tests.harness.child_spec import Hook
from tests.harness.webhook_receiver import SentWebhook

# A loopback address that no other server uses.
PUBLIC_ADDRESS = "127.77.7.7"
HOST_NAME, OTHER_HOST_NAME = "images.example", "more.images.example"
MAX_WAIT_SECONDS = 30.0


def patch_public_internet(server_port: int, names_file: str = "") -> None:
    """Runs in a gateway's process, before its first connection. `names_file`: has further addresses by name, and may
    change."""
    is_public, make_result, lookup = (
        address_guard.is_public,
        address_guard._make_result,
        dns_lookup.SystemResolver.__call__,
    )

    def read_names() -> dict[str, list[str]]:
        names: dict[str, list[str]] = json.loads(Path(names_file).read_text()) if names_file else {}
        return names

    async def lookup_with_site(self: dns_lookup.SystemResolver, host: str) -> Sequence[str]:
        if host in (names := read_names()):
            return names[host]
        return [PUBLIC_ADDRESS] if host in (HOST_NAME, OTHER_HOST_NAME) else await lookup(self, host)

    def make_result_with_site_port(host: str, address: str, port: int) -> Any:
        return make_result(host, address, server_port if address == PUBLIC_ADDRESS else port)

    address_guard.is_public = lambda address: address == PUBLIC_ADDRESS or is_public(address)
    address_guard._make_result = make_result_with_site_port
    dns_lookup.SystemResolver.__call__ = lookup_with_site  # type: ignore[method-assign]


class PublicSite:
    """The server's pages by path: status, headers and body chunks. `request_counts` counts requests by path;
    `webhooks`: those that it received."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.port = port
        self.certificate = certificate
        self.request_counts: Counter[str] = Counter()
        self.pages: dict[str, tuple[int, dict[str, str], list[bytes | float | None]]] = {}
        self.stopped = threading.Event()
        self.webhooks: list[SentWebhook] = []

    def make_url(self, path: str, host_name: str = HOST_NAME) -> str:
        return f"https://{host_name}{path}"

    def add_page(self, path: str, *chunks: bytes | float | None, status: int = 200, **headers: str) -> str:
        """Adds a page and returns its URL. A chunk of None stalls the response, which then has no content-length. A
        number pauses it for so many seconds."""
        header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
        content_length = None if None in chunks else sum(len(chunk) for chunk in chunks if isinstance(chunk, bytes))
        header_fields = {
            **({"connection": "close"} if content_length is None else {"content-length": str(content_length)}),
            **header_fields,
        }
        self.pages[path] = status, header_fields, list(chunks)
        return self.make_url(path)

    def add_to_setup(self, setup: GatewaySetup, names_file: Path | None = None) -> GatewaySetup:
        """Returns the setup of a gateway that uses this server. aiohttp reads the certificate when it is imported."""
        arguments = {"server_port": self.port, "names_file": str(names_file or "")}
        hook = Hook("tests.flow.public_site:patch_public_internet", arguments)
        environ = {**setup.environ, "SSL_CERT_FILE": str(self.certificate)}
        return replace(setup, hooks=(*setup.hooks, hook), environ=environ, start_method="exec")


class _SiteServer(ThreadingHTTPServer):
    daemon_threads = True
    site: PublicSite

    def handle_error(self, *_: object) -> None:
        """Ignores clients that disconnect early: tests cause it."""


class _PageHandler(BaseHTTPRequestHandler):
    server: _SiteServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.server.site
        site.request_counts[self.path] += 1
        status, headers, chunks = site.pages.get(self.path, (404, {"content-length": "0"}, []))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for chunk in chunks:
            if chunk is None:
                site.stopped.wait(MAX_WAIT_SECONDS)
            elif isinstance(chunk, float):
                site.stopped.wait(chunk)
            else:
                self.wfile.write(chunk)

    def do_POST(self) -> None:
        """Accepts a webhook, unless its path has a page with another status."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, page_headers, _ = self.server.site.pages.get(self.path, (204, {}, []))
        self.server.site.webhooks.append(SentWebhook(self.path, headers, body, status))
        self.send_response(status)
        # The next webhook needs a new connection, and another look at the name.
        for name, value in {**page_headers, "connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Logs nothing: tests read `request_counts`."""


@contextmanager
def run_public_site(folder: Path) -> Iterator[PublicSite]:
    certificate = _create_certificate(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, folder / "key.pem")
    with _SiteServer((PUBLIC_ADDRESS, 0), _PageHandler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.site = PublicSite(server.server_address[1], certificate)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.site
        finally:
            server.site.stopped.set()
            server.shutdown()
            thread.join()


def _create_certificate(folder: Path) -> Path:
    """Creates a self-signed certificate for both names."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += [
        "-days",
        "2",
        "-subj",
        f"/CN={HOST_NAME}",
        "-addext",
        f"subjectAltName=DNS:{HOST_NAME},DNS:{OTHER_HOST_NAME}",
    ]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "certificate.pem"
