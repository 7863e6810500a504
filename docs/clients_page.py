"""Generates `docs/clients.md` from the table of clients and from the contract tests that run them."""

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.clients.client_table import CLIENTS, Capability, ClientEntry

ROOT = Path(__file__).parents[1]
CLIENT_TESTS = ROOT / "tests" / "clients"
LOCKS = {"python": "dev.txt", "clients": "clients.txt"}
Row = tuple[str, ...]
MATRIX_HEAD: Row = ("", *(client.short_name for client in CLIENTS))
VERSIONS_HEAD: Row = ("Client", "Column", "Version")


def build_version_rows() -> Iterator[Row]:
    for client in CLIENTS:
        yield client.name, client.short_name, _read_version(client)


def _read_version(client: ClientEntry) -> str:
    """Returns the version that the lock of the client's runtime pins."""
    if client.package is None:
        return "any"
    if client.runtime == "node":
        lock = json.loads((CLIENT_TESTS / "node_programs" / "package-lock.json").read_text())
        entry = lock["packages"][f"node_modules/{client.package}"]
        return f"`{entry.get('name', client.package)}` {entry['version']}"
    text = (ROOT / "deploy" / "requirements" / LOCKS[client.runtime]).read_text()
    match = re.search(rf"^{re.escape(client.package)}==(\S+)", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"{LOCKS[client.runtime]} does not pin {client.package}")
    return f"`{client.package}` {match[1]}"


def build_matrix_rows() -> Iterator[Row]:
    """Yields one row for each capability: `yes` where a test runs the client, otherwise the number of the reason."""
    numbers = {reason: str(number) for number, reason in enumerate(list_reasons(), 1)}
    tested_clients = _find_tested_clients()
    for capability in Capability:
        yield str(capability), *(_describe_cell(client, capability, tested_clients, numbers) for client in CLIENTS)


def _describe_cell(
    client: ClientEntry, capability: Capability, tested_clients: dict[Capability, set[str]], numbers: dict[str, str]
) -> str:
    if client.id in tested_clients.get(capability, set()):
        return "yes"
    if capability not in client.missing:
        raise ValueError(f"no test proves {capability!r} for {client.id}")
    return f"– ({numbers[client.missing[capability]]})"


def list_reasons() -> list[str]:
    return list(dict.fromkeys(reason for client in CLIENTS for reason in client.missing.values()))


def _find_tested_clients() -> dict[Capability, set[str]]:
    """Returns the ids of the clients that the contract tests run, by what the tests prove."""
    clients: dict[Capability, set[str]] = {}
    for test in vars(importlib.import_module("tests.clients.test_client_contracts")).values():
        if hasattr(test, "capability"):
            clients.setdefault(test.capability, set()).update(_list_client_ids(test))
    return clients


def _list_client_ids(test: Any) -> Iterator[str]:
    for mark in test.pytestmark:
        if mark.name == "parametrize" and mark.args[0] == "client":
            yield from (client.id for client in mark.args[1])


def render_snippets() -> str:
    """Renders one section for each snippet, under the names of its clients."""
    names_by_snippet: dict[str, list[str]] = {}
    for client in CLIENTS:
        names_by_snippet.setdefault(client.snippet, []).append(client.name)
    return "\n".join(_render_snippet(snippet, names) for snippet, names in names_by_snippet.items())


def _render_snippet(snippet: str, names: list[str]) -> str:
    language = {".py": "python", ".mjs": "js", ".sh": "bash"}[Path(snippet).suffix]
    text = (CLIENT_TESTS / "snippets" / snippet).read_text()
    return f"### {' and '.join(names)}\n\n```{language}\n{text}```\n"


def render_clients_body(matrix: str, versions: str) -> str:
    reasons = "\n".join(f"{number}. {reason}" for number, reason in enumerate(list_reasons(), 1))
    return f"""
# Clients

What works with which client. Every *yes* is a test of `tests/clients`: it runs the version of the client below against
a gateway over a socket, and compares the invoices of simulated sellers. A number is the reason why a client lacks it.

{matrix}
{reasons}

*Errors*: 400, 401, 403, 404, 424, 429 and 503. The client shows the gateway's status and message, and does not retry a
request whose error is final ([codes](errors.md)). *Bought once*: the connection breaks while the order runs. The client
retries its request without an `Idempotency-Key`, and gets the job of the first request
([how](decisions/2026-11-26-repeated-requests.md)).

{versions}
## Point a client at the gateway

A client needs the base URL with `/v1`, and an API key of the gateway. `igw_sandbox` is the key of `make run`. The
tests run these snippets as they are printed. Parameters of the gateway (`max_cost`, `provider`, `policy`, …) are sent
beside OpenAI's own; if a client drops them, give its key a [policy](keys.md). LiteLLM refuses some of OpenAI's
parameters for known models: send these in `extra_body`, too. The AI SDK sends edits as forms: write objects in them
as JSON, as in `providerOptions: {{ igw: {{ provider: JSON.stringify({{ only: ["runapi"] }}) }} }}`.

{render_snippets()}
Requests of other clients (Azure's SDKs, LibreChat, Open WebUI, ComfyUI, LlamaIndex and others) are replayed byte for
byte: [recordings](../tests/clients/requests/README.md).
"""
