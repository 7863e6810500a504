"""TLS for servers on loopback: a certificate that is its own authority."""

import subprocess
from pathlib import Path

from msgspec import Struct


class TlsFiles(Struct, frozen=True):
    certificate: Path
    key: Path

    @property
    def url_option(self) -> str:
        return f"ssl_ca_certs={self.certificate}"

    @property
    def client_options(self) -> dict[str, str]:
        """The options of a client that has a certificate of its own."""
        names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
        return dict(zip(names, map(str, (self.certificate, self.certificate, self.key)), strict=True))

    def list_server_options(self, port: int) -> list[tuple[str, str]]:
        """Lists the options of a server, or a Sentinel, that accepts and opens only connections with TLS."""
        return [
            ("port", "0"),
            ("tls-port", str(port)),
            ("tls-cert-file", str(self.certificate)),
            ("tls-key-file", str(self.key)),
            ("tls-ca-cert-file", str(self.certificate)),
            ("tls-auth-clients", "no"),
            ("tls-replication", "yes"),
        ]


def create_tls_files(folder: Path, subject: str = "IP:127.0.0.1") -> TlsFiles:
    """`subject`: the host name or IP address that the certificate contains, as OpenSSL writes it."""
    folder.mkdir(parents=True)
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=redis", "-addext", f"subjectAltName={subject}"]
    command += ["-keyout", str(files.key), "-out", str(files.certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return files
