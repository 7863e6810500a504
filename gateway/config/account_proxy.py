"""HTTP proxy of an account: reference in the configuration and resolved address."""

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import ClassVar, Self
from urllib.parse import unquote

from msgspec import Struct

from gateway.config.value_types import PORT_PATTERN, Schema, Secret, SecretRef

_REFERENCE = re.compile(r"env:[A-Z_][A-Z0-9_]*|file:/[^\0]+", re.ASCII)
_ADDRESS = re.compile(
    r"http://(?:(?P<user>[^\x00-\x20:@/?#]+):(?P<password>[^\x00-\x20:@/?#]*)@)?"
    r"(?P<address>(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]):" + PORT_PATTERN + r")/?",
    re.ASCII | re.IGNORECASE,
)


class Proxy(Struct, frozen=True):
    """Proxy address, and the value of its authorization header."""

    address: str
    credentials: Secret | None = None

    @classmethod
    def parse(cls, address: Secret) -> "Proxy | None":
        """Parses an address; None if it is invalid. Special characters in credentials are percent-encoded, like %40."""
        match = _ADDRESS.fullmatch(address.reveal())
        if match is None:
            return None
        bare_address = f"http://{match['address']}"
        if match["user"] is None:
            return cls(bare_address)
        user, password = unquote(match["user"]), unquote(match["password"])
        # Everything after the first colon is the password.
        return (
            None
            if ":" in user
            else cls(bare_address, Secret(f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"))
        )


class ProxyRef(SecretRef):
    """A proxy address without credentials, or a reference (env:NAME, file:/path) to one with credentials."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "http://proxy.example:3128"
    FULL_EXAMPLE: ClassVar[str] = "http://user:password@proxy.example:3128"
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "pattern": rf"^([Hh][Tt][Tt][Pp]://[^@/?#\s]+:{PORT_PATTERN}/?|env:[A-Z_][A-Z0-9_]*|file:/.+)$",
        "examples": [EXAMPLE, "env:PROXY_URL"],
    }

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses the text. Error messages do not repeat it, since it may contain credentials."""
        if _REFERENCE.fullmatch(text):
            return cls(text)
        if "@" in text:
            raise ValueError(
                "Invalid proxy: credentials are not allowed here. Reference the address with env:NAME or file:/path"
            )
        if re.match(r"(?!http:)[a-z0-9+.-]+://", text, re.ASCII | re.IGNORECASE):
            raise ValueError(f"Unsupported proxy. Use an HTTP proxy, like {cls.EXAMPLE}")
        if Proxy.parse(Secret(text)) is None:
            raise ValueError(
                f"Invalid proxy. Write {cls.EXAMPLE}, with the port, or a reference: env:NAME or file:/path"
            )
        return cls(text)

    def resolve(self, environ: Mapping[str, str]) -> Secret | None:
        return super().resolve(environ) if _REFERENCE.fullmatch(self) else Secret(self)

    def make_placeholder(self) -> Secret:
        return Secret(self.EXAMPLE)
