"""TLS for servers on loopback: a self-signed certificate for one name."""

import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

SELLER_HOST = "seller.example"


def create_certificate(folder: Path) -> Path:
    """Creates a certificate for one name; key and certificate in one file."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={SELLER_HOST}", "-addext", f"subjectAltName=DNS:{SELLER_HOST}"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    combined = folder / "both.pem"
    combined.write_text((folder / "key.pem").read_text() + (folder / "certificate.pem").read_text())
    return combined


def make_server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def make_client_context(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


async def resolve_to_loopback(_: str) -> Sequence[str]:
    return ["127.0.0.1"]
