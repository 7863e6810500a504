"""Methods of aiohttp and uvicorn that are overridden or called, though they are private or may change in any release.

If this fails after an update, compare the new version of the method with the override. pyproject.toml pins the
minor versions.
"""

import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from packaging.requirements import Requirement
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.api.http_protocol import HttpProtocol
from gateway.commands.serve import _GatewayServer
from gateway.upstream.asyncio_tls_connector import TlsConnector
from gateway.upstream.transport import ExactRequest, ProgressConnector, RequestProtocol

ROOT = Path(__file__).parents[2]
PINNED = ("aiohttp", "uvicorn", "uvloop")
CONNECTION_OPTIONS = "*args, addr_infos, req, timeout, client_error, **kwargs"
EXPECTED_PARAMETERS = {
    (aiohttp.TCPConnector, "connect"): "self, req, traces, timeout",
    (aiohttp.TCPConnector, "_get"): "self, key, traces",
    (aiohttp.TCPConnector, "_wait_for_available_connection"): "self, key, traces",
    (aiohttp.TCPConnector, "_create_direct_connection"): "self, req, traces, timeout, *, client_error",
    (aiohttp.TCPConnector, "_wrap_create_connection"): f"self, {CONNECTION_OPTIONS}",
    (aiohttp.TCPConnector, "_start_tls_connection"): "self, underlying_transport, req, timeout, client_error",
    (aiohttp.TCPConnector, "_get_ssl_context"): "self, req",
    (ResponseHandler, "eof_received"): "self",
    (ClientRequest, "update_auto_headers"): "self, skip_auto_headers",
    (uvicorn.Server, "startup"): "self, sockets",
    (uvicorn.Server, "handle_exit"): "self, sig, frame",
    (HttpToolsProtocol, "__init__"): "self, config, server_state, app_state, _loop",
    (HttpToolsProtocol, "connection_made"): "self, transport",
    (HttpToolsProtocol, "connection_lost"): "self, exc",
    (HttpToolsProtocol, "eof_received"): "self",
    (HttpToolsProtocol, "data_received"): "self, data",
    (HttpToolsProtocol, "pause_writing"): "self",
    (HttpToolsProtocol, "resume_writing"): "self",
    (HttpToolsProtocol, "on_message_begin"): "self",
    (HttpToolsProtocol, "on_header"): "self, name, value",
    (HttpToolsProtocol, "on_headers_complete"): "self",
    (HttpToolsProtocol, "on_body"): "self, body",
    (HttpToolsProtocol, "on_message_complete"): "self",
    (HttpToolsProtocol, "on_response_complete"): "self",
    (HttpToolsProtocol, "_unset_keepalive_if_required"): "self",
}
SUBCLASSES = {
    ProgressConnector: aiohttp.TCPConnector,
    TlsConnector: aiohttp.TCPConnector,
    RequestProtocol: ResponseHandler,
    ExactRequest: ClientRequest,
    _GatewayServer: uvicorn.Server,
    HttpProtocol: HttpToolsProtocol,
}


@pytest.mark.parametrize(
    ("owner", "method"), EXPECTED_PARAMETERS, ids=lambda value: value if isinstance(value, str) else value.__name__
)
def test_overridden_method_has_expected_parameters(owner: type, method: str) -> None:
    parameters = inspect.signature(getattr(owner, method)).parameters.values()
    names = [re.split("[:= ]", str(parameter))[0] for parameter in parameters]
    is_keyword_only = [parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters]
    if True in is_keyword_only and not any(name.startswith("*") for name in names):
        names.insert(is_keyword_only.index(True), "*")
    assert ", ".join(names) == EXPECTED_PARAMETERS[owner, method]


@pytest.mark.parametrize("subclass", SUBCLASSES, ids=lambda subclass: subclass.__name__)
def test_every_overridden_method_is_listed(subclass: type) -> None:
    base = SUBCLASSES[subclass]
    overridden = {name for name in vars(subclass) if callable(getattr(base, name, None)) and name != "__doc__"}
    assert {(base, name) for name in overridden - {"__init__", "__hash__"}} <= EXPECTED_PARAMETERS.keys()


def test_attributes_of_a_request_cycle_exist() -> None:
    attributes = set(re.findall(r"self\.(\w+)", inspect.getsource(RequestResponseCycle.__init__)))
    used = {"disconnected", "message_event", "response_complete", "response_started", "more_body", "keep_alive"}
    assert {*used, "scope"} <= attributes


def test_minor_versions_are_pinned_and_locked() -> None:
    """The lock file has the pinned version, with hashes and without addresses of an index."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {requirement.name: requirement for requirement in map(Requirement, project["dependencies"])}
    inputs = (ROOT / "deploy/requirements/runtime.in").read_text().splitlines()
    for name in PINNED:
        major, minor, _ = version(name).split(".")
        assert {str(part) for part in pins[name].specifier} == {f">={major}.{minor}", f"<{major}.{int(minor) + 1}"}
        assert str(pins[name]) in map(str, (Requirement(line) for line in inputs if line.startswith(name)))
        for lock in ("runtime.txt", "dev.txt"):
            locked = re.search(
                rf"^{name}==(\S+) \\\n    --hash=sha256:",
                (ROOT / "deploy/requirements" / lock).read_text(),
                re.MULTILINE,
            )
            assert locked
            assert locked[1] in pins[name].specifier
