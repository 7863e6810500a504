"""`image-gateway serve`: the gateway itself."""

import asyncio
import errno
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import click
import uvicorn

from gateway.api.http_protocol import make_protocol_class
from gateway.app import Gateway
from gateway.assets.storage import StorageError
from gateway.catalogue import Catalogue
from gateway.commands.config_helpers import CONFIG_HELP
from gateway.commands.sandbox_catalogue import (
    SANDBOX_KEY,
    SIMULATED_SELLERS,
    list_unsimulated_sellers,
    use_sandbox_sellers,
)
from gateway.config.default_config import DEFAULT_FOLDER, default_config_folder
from gateway.config.reloader import ConfigError, ConfigReloader, ReloadResult
from gateway.config.resolver import placeholder_secrets, secrets_from_env
from gateway.events import describe_exception
from gateway.settings import ENV_OPTIONS, Settings, SettingsError, load_settings
from gateway.store.base import StoreError
from gateway.telemetry.logs import EventLogger
from providers import ADAPTERS
from sandbox.runapi.callbacks import CALLBACK_SECRET

SHIPPED_CONFIG_WARNING = (
    "there is no folder config here, and none was named: the configuration that image-gateway comes with is used; "
    "`image-gateway init` writes it out to be edited"
)
MAX_PORT_TRIES, MAX_PORT = 20, 65_535
LOOPBACK_HOSTS = {"127.0.0.1", "::1", "localhost"}
# How long answers may take to reach those who still wait, when nobody works on jobs here any more.
SHUTDOWN_TIMEOUT_SECONDS, FORCED_SHUTDOWN_TIMEOUT_SECONDS = 10, 1
_ENV_OPTIONS_HELP = "\n".join(f"  {one.name:18} {one.help} [{one.default or 'none'}]" for one in ENV_OPTIONS.values())
HELP = f"""Run the gateway.

Everything can be said in the environment, too; the command line outranks it:

\b
{_ENV_OPTIONS_HELP}
"""


class StartError(Exception):
    """The gateway cannot be started here, in words for an operator."""


@click.command(help=HELP)
@click.option("--config", "config", type=click.Path(path_type=Path), help=CONFIG_HELP)
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder for SQLite and images.")
@click.option("--sandbox", "use_sandbox", is_flag=True, help="Buy from simulated sellers, for no money.")
@click.option("--realistic", is_flag=True, help="With --sandbox: as slow as the sellers' own pages say.")
@click.option("--allow-remote", is_flag=True, help="With --sandbox: listen on other addresses than this machine's own.")
@click.option("--log", "log_format", type=click.Choice(["json", "console"]), help="Lines for machines, or for people.")
def serve(use_sandbox: bool, realistic: bool, allow_remote: bool, **overrides: object) -> None:
    if use_sandbox and overrides["log_format"] is None and sys.stderr.isatty():
        overrides["log_format"] = "console"
    with _log_startup_failures(str(overrides["log_format"] or os.environ.get("IGW_LOG"))):
        settings = load_settings(os.environ, **overrides)
        if use_sandbox and settings.host not in LOOPBACK_HOSTS and not allow_remote:
            raise StartError("--sandbox has a public key: say --allow-remote to open it")
        # A trial run that names no port gets the next free one.
        tries = MAX_PORT_TRIES if use_sandbox and overrides["port"] is None and not os.environ.get("IGW_PORT") else 1
        if use_sandbox:
            with _run_sandbox(realistic) as url:
                _serve_configured(settings, url, realistic, tries)
        else:
            _serve_configured(settings, None, realistic, tries)


@contextmanager
def _log_startup_failures(log_format: str) -> Iterator[None]:
    """What keeps the gateway from running is a line of its log, for machines too, and exit code 1."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  a crash is a line, too: its place, since its text may contain a client's words
        logs = EventLogger("console" if log_format == "console" else "json")
        for problem in _list_problems(error):
            logs.log("error", "start failed", problem=problem)
        logs.close()
        raise SystemExit(1) from None


def _list_problems(error: Exception) -> list[str]:
    if isinstance(error, ConfigError):
        return [str(problem) for problem in error.resolved.problems]
    is_for_operators = isinstance(error, StartError | StoreError | StorageError | SettingsError)
    return str(error).splitlines() if is_for_operators else [f"internal error: {describe_exception(error)}"]


def _serve_configured(settings: Settings, sandbox_url: str | None, realistic: bool, port_tries: int) -> None:
    def make_reloader(on_reload: Callable[[ReloadResult], None]) -> ConfigReloader:
        secrets = placeholder_secrets if sandbox_url else secrets_from_env(os.environ)
        return ConfigReloader(settings.config, secrets, ADAPTERS, on_reload)

    def transform_catalogue(catalogue: Catalogue) -> Catalogue:
        if sandbox_url is None:
            return catalogue
        for seller in list_unsimulated_sellers(catalogue):
            gateway.logs.log("warning", "seller left out", seller=seller, why="the sandbox does not play its adapter")
        return use_sandbox_sellers(catalogue, sandbox_url, CALLBACK_SECRET, not realistic)

    early_reloads = _collect_early_sighups()
    gateway = Gateway(settings, make_reloader, transform_catalogue)
    with closing(gateway.logs):
        if settings.config == default_config_folder() and not DEFAULT_FOLDER.is_dir():
            gateway.logs.log("warning", "shipped configuration", warning=SHIPPED_CONFIG_WARNING)
        for warning in gateway.reloader.last_result.resolved.warnings if not sandbox_url else ():
            gateway.logs.log("warning", "configuration", warning=str(warning))
        if sandbox_url is not None and not gateway.catalogue().sellers:
            raise StartError(
                f"the sandbox plays the adapters {', '.join(SIMULATED_SELLERS)}, and no configured seller uses one"
            )
        _run_server(gateway, settings, sandbox_url, early_reloads, port_tries)


def _run_server(
    gateway: Gateway, settings: Settings, sandbox_url: str | None, early_reloads: list[int], port_tries: int
) -> None:
    _raise_file_limit()
    server_socket = _bind_free_port(settings, port_tries)
    url = f"http://{_format_host(settings)}:{server_socket.getsockname()[1]}"
    gateway.set_base_url(url, is_reachable_by_sellers=sandbox_url is not None)
    with gateway.logs.capture_library_logs():
        try:
            _GatewayServer(gateway, early_reloads, lambda: _print_banner(url, sandbox_url)).run(sockets=[server_socket])
        except SystemExit:
            # The server's own end where it could not start: what was in the way is told instead.
            if gateway.lifespan_error is None:
                raise
    if gateway.lifespan_error is not None:
        raise gateway.lifespan_error


def _collect_early_sighups() -> list[int]:
    """The SIGHUPs from now until somebody listens to them: what they ask for may have been read before it changed."""
    signals: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: signals.append(number))
    return signals


def _raise_file_limit() -> None:
    """A thousand waiting callers and their orders are two thousand connections; the usual limit is half of that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bind_free_port(settings: Settings, port_tries: int) -> socket.socket:
    for port in range(settings.port, min(settings.port + port_tries, MAX_PORT + 1)):
        try:
            return _bind_socket(settings.host, port)
        except OSError as error:
            reason = error.strerror
            if error.errno != errno.EADDRINUSE:
                break
    address = f"{_format_host(settings)}:{settings.port}"
    raise StartError(f"{address} cannot be listened on ({reason}): take another with --port or IGW_PORT")


def _bind_socket(host: str, port: int) -> socket.socket:
    """On all addresses of a machine that has both kinds, those who come by IPv4 are heard, too."""
    is_ipv6 = ":" in host
    is_dual_stack = host == "::" and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2_048, dualstack_ipv6=is_dual_stack)


def _format_host(settings: Settings) -> str:
    return f"[{settings.host}]" if ":" in settings.host else settings.host


class _GatewayServer(uvicorn.Server):
    """Stops only after running jobs have finished or were handed over, and reads the configuration anew on SIGHUP."""

    def __init__(self, gateway: Gateway, early_reloads: list[int], on_started: Callable[[], None]) -> None:
        config = uvicorn.Config(
            gateway.app,
            loop="uvloop",
            http=make_protocol_class(gateway.emit),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_SECONDS,
        )
        super().__init__(config)
        self._gateway = gateway
        self._early_reloads = early_reloads
        self._on_started = on_started
        self._drain_task: asyncio.Task[None] | None = None
        self._is_handing_over = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._gateway.reloader.reload)
        if self._early_reloads:
            self._gateway.reloader.reload()
        if not self.should_exit:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, a second one hands everything over now, a third does not wait for that, either."""
        if self._drain_task is None:
            self._drain_task = asyncio.get_running_loop().create_task(self._drain())
        elif self._is_handing_over:
            super().handle_exit(sig, frame)
            self.force_exit = True
        else:
            self._is_handing_over = True
            self.config.timeout_graceful_shutdown = FORCED_SHUTDOWN_TIMEOUT_SECONDS
            self._gateway.hand_over_now()

    async def _drain(self) -> None:
        try:
            await self._gateway.drain()
        finally:
            self.should_exit = True


@contextmanager
def _run_sandbox(realistic: bool) -> Iterator[str]:
    command = [sys.executable, "-m", "gateway.cli", "sandbox", "--port", "0", "--with-parent"]
    if realistic:
        command.append("--realistic")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:  # noqa: S603
        try:
            yield _wait_for_sandbox_url(process)
        finally:
            process.terminate()


def _wait_for_sandbox_url(process: "subprocess.Popen[str]") -> str:
    for line in process.stdout or ():
        if match := re.search(r"sandbox listening on (\S+)", line):
            return match[1]
    raise StartError("the sandbox did not start")


def _print_banner(url: str, sandbox_url: str | None) -> None:
    click.echo(f"image-gateway listening on {url}")
    if sandbox_url is None:
        return
    click.echo(
        f"""
  Draw a picture:

    curl -s {url}/v1/images/generations \\
      -H 'Authorization: Bearer {SANDBOX_KEY}' -H 'Content-Type: application/json' \\
      -d '{{"prompt": "a lighthouse at dawn"}}' \\
      | sed 's/.*"b64_json":"\\([^"]*\\)".*/\\1/' | base64 -d > image.png

  Sandbox  {sandbox_url}/_/   what was charged, faults, latency
  Metrics  {url}/metrics

  Stop with Ctrl-C."""
    )
