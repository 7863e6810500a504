"""`image-gateway serve`: runs the gateway."""

import asyncio
import errno
import gc
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import click
import uvicorn
from msgspec.structs import replace

from gateway.api.http_protocol import make_protocol_class
from gateway.assets.storage import StorageError
from gateway.catalogue import Catalogue
from gateway.commands.config_helpers import CONFIG_HELP
from gateway.commands.sandbox_catalogue import (
    SANDBOX_KEY,
    SIMULATED_SELLERS,
    list_unsimulated_sellers,
    use_sandbox_sellers,
)
from gateway.config.catalogue_builder import find_admin_keys, placeholder_secrets, secrets_from_env
from gateway.config.default_config import DEFAULT_FOLDER, default_config_folder
from gateway.config.reloader import ConfigError, ConfigReloader, ReloadResult
from gateway.events import describe_exception
from gateway.gateway_lifecycle import Gateway
from gateway.settings import ENV_OPTIONS, Settings, SettingsError, load_settings
from gateway.store.base import StoreError
from gateway.telemetry.logs import EventLogger
from gateway.timeouts_and_intervals import Timing
from providers import ADAPTERS
from sandbox.runapi.callbacks import CALLBACK_SECRET

SHIPPED_CONFIG_WARNING = (
    "there is no folder `config` here, so the shipped configuration is used; "
    "`image-gateway init` writes it to a folder for editing"
)
MAX_PORT_TRIES, MAX_PORT = 20, 65_535
LOOPBACK_HOSTS = {"127.0.0.1", "::1", "localhost"}
# `make prometheus` scrapes the sandbox's gateway every five seconds, and has data for every panel within a minute.
MAX_SANDBOX_ZERO_SECONDS = 20.0
# New objects in cycles after which the youngest generation is collected: a thousand requests, a megabyte.
GC_THRESHOLD = 20_000
_ENV_OPTIONS_HELP = "\n".join(
    f"  {option.name:18} {option.help} [{option.default or 'none'}]" for option in ENV_OPTIONS.values()
)
HELP = f"""Run the gateway.

Every option can be set in the environment, too; the command line takes precedence:

\b
{_ENV_OPTIONS_HELP}
"""


class StartError(Exception):
    """The gateway cannot start. The message is for operators."""


@click.command(help=HELP)
@click.option("--config", "config", type=click.Path(path_type=Path), help=CONFIG_HELP)
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder for SQLite and images.")
@click.option("--sandbox", "use_sandbox", is_flag=True, help="Use simulated sellers, free of charge.")
@click.option("--sandbox-url", help="Like --sandbox, but use the sandbox at this URL: for several replicas.")
@click.option("--realistic", is_flag=True, help="With --sandbox: realistic latencies.")
@click.option("--allow-remote", is_flag=True, help="With --sandbox: allow other addresses than loopback.")
@click.option(
    "--log", "log_format", type=click.Choice(["json", "console"]), help="Log format: json, or console for people."
)
@click.pass_obj
def serve(
    timing: Timing,
    /,
    use_sandbox: bool,
    sandbox_url: str | None,
    realistic: bool,
    allow_remote: bool,
    **overrides: object,
) -> None:
    sandbox_url = sandbox_url.rstrip("/") if sandbox_url else None
    use_sandbox = use_sandbox or sandbox_url is not None
    if use_sandbox and overrides["log_format"] is None and sys.stderr.isatty():
        overrides["log_format"] = "console"
    with _log_startup_failures(str(overrides["log_format"] or os.environ.get("IGW_LOG"))):
        settings = load_settings(os.environ, **overrides)
        if use_sandbox and settings.host not in LOOPBACK_HOSTS and not allow_remote:
            raise StartError(f"--sandbox uses a public key: add --allow-remote to listen on {settings.host}")
        # With --sandbox and without --port, the next free port is used.
        may_choose_port = use_sandbox and overrides["port"] is None and not os.environ.get("IGW_PORT")
        port_tries = MAX_PORT_TRIES if may_choose_port else 1
        starts_sandbox = use_sandbox and sandbox_url is None
        sandbox: AbstractContextManager[str | None] = (
            _run_sandbox(realistic) if starts_sandbox else nullcontext(sandbox_url)
        )
        with sandbox as url:
            _serve_configured(settings, _shorten_for_sandbox(timing) if url else timing, url, realistic, port_tries)


def _shorten_for_sandbox(timing: Timing) -> Timing:
    zero_seconds = min(timing.maintenance.new_series_zero_seconds, MAX_SANDBOX_ZERO_SECONDS)
    return replace(timing, maintenance=replace(timing.maintenance, new_series_zero_seconds=zero_seconds))


@contextmanager
def _log_startup_failures(log_format: str) -> Iterator[None]:
    """Logs why the gateway cannot start, and exits with code 1."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  a crash is logged, too: its location, since its text may contain client data
        logs = EventLogger("console" if log_format == "console" else "json")
        for problem in _list_problems(error):
            logs.log("error", "startup failed", problem=problem)
        logs.close()
        raise SystemExit(1) from None


def _list_problems(error: Exception) -> list[str]:
    if isinstance(error, ConfigError):
        return [str(problem) for problem in error.resolved.problems]
    is_for_operators = isinstance(error, StartError | StoreError | StorageError | SettingsError)
    return str(error).splitlines() if is_for_operators else [f"internal error: {describe_exception(error)}"]


def _serve_configured(
    settings: Settings, timing: Timing, sandbox_url: str | None, realistic: bool, port_tries: int
) -> None:
    def make_reloader(on_reload: Callable[[ReloadResult], None]) -> ConfigReloader:
        secrets = placeholder_secrets if sandbox_url else secrets_from_env(os.environ)
        return ConfigReloader(settings.config, secrets, ADAPTERS, on_reload, timing.maintenance)

    def transform_catalogue(catalogue: Catalogue, logs: EventLogger) -> Catalogue:
        if sandbox_url is None:
            return catalogue
        for seller in list_unsimulated_sellers(catalogue):
            logs.log("warning", "seller skipped", seller=seller, reason="the sandbox does not simulate its adapter")
        sandbox_catalogue = use_sandbox_sellers(catalogue, sandbox_url, CALLBACK_SECRET, not realistic)
        # Placeholders of secrets are public, so admin keys are never placeholders.
        admin_keys = find_admin_keys(catalogue.gateway, secrets_from_env(os.environ))
        return replace(sandbox_catalogue, configured_keys={**sandbox_catalogue.configured_keys, **admin_keys})

    early_reloads = _collect_early_sighups()
    gateway = Gateway(settings, make_reloader, transform_catalogue, timing=timing)
    with closing(gateway.logs):
        if settings.config == default_config_folder() and not DEFAULT_FOLDER.is_dir():
            gateway.logs.log("warning", "using shipped configuration", warning=SHIPPED_CONFIG_WARNING)
        gateway.log_config_warnings()
        if sandbox_url is not None and not gateway.catalogue.get().sellers:
            adapters = ", ".join(SIMULATED_SELLERS)
            raise StartError(
                f"the sandbox simulates the adapters {adapters}, and no configured seller uses one of them"
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
            # uvicorn exits if the startup fails. The stored error is more precise.
            if gateway.lifespan_error is None:
                raise
    if gateway.lifespan_error is not None:
        raise gateway.lifespan_error


def _collect_early_sighups() -> list[int]:
    """Collects SIGHUPs until the server handles them: files may have changed after they were read."""
    signals: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: signals.append(number))
    return signals


def _raise_file_limit() -> None:
    """Raises the limit of open files. A thousand waiting clients and their orders need two thousand connections; the
    usual limit is 1,024."""
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
    raise StartError(f"cannot listen on {address} ({reason}). Choose another port with --port or IGW_PORT.")


def _bind_socket(host: str, port: int) -> socket.socket:
    """Binds the socket. If the host is `::`, it listens on IPv4, too."""
    is_ipv6 = ":" in host
    is_dual_stack = host == "::" and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2_048, dualstack_ipv6=is_dual_stack)


def _format_host(settings: Settings) -> str:
    return f"[{settings.host}]" if ":" in settings.host else settings.host


def _tune_garbage_collector() -> None:
    """Excludes what exists after the startup from garbage collection, and collects less often.

    Nearly all objects of a request are freed without the collector. Each of its runs would visit all modules and the
    configuration again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


class _GatewayServer(uvicorn.Server):
    """Drains the gateway before it stops, and reloads the configuration on SIGHUP."""

    def __init__(self, gateway: Gateway, early_reloads: list[int], on_started: Callable[[], None]) -> None:
        config = uvicorn.Config(
            gateway.app,
            loop="uvloop",
            http=make_protocol_class(gateway.emit, gateway.timing.api),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            # Nothing depends on the client's address or on the scheme.
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=gateway.timing.api.shutdown_timeout_seconds,
        )
        super().__init__(config)
        self._gateway = gateway
        self._early_reloads = early_reloads
        self._on_started = on_started
        self._drain_task: asyncio.Task[None] | None = None
        self._is_handing_over = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _tune_garbage_collector()
        request_reload = self._gateway.reloader.request_reload
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, request_reload)
        if self._early_reloads:
            request_reload()
        if not self.should_exit:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drains at the first signal, hands over all jobs at the second, and exits immediately at the third."""
        if self._drain_task is None:
            self._drain_task = asyncio.get_running_loop().create_task(self._drain())
        elif self._is_handing_over:
            super().handle_exit(sig, frame)
            self.force_exit = True
        else:
            self._is_handing_over = True
            self.config.timeout_graceful_shutdown = self._gateway.timing.api.forced_shutdown_timeout_seconds
            self._gateway.hand_over_all_jobs()

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
  Generate an image:

    curl -s {url}/v1/images/generations \\
      -H 'Authorization: Bearer {SANDBOX_KEY}' -H 'Content-Type: application/json' \\
      -d '{{"prompt": "a lighthouse at dawn"}}' \\
      | sed 's/.*"b64_json":"\\([^"]*\\)".*/\\1/' | base64 -d > image.png

  Sandbox  {sandbox_url}/_/   charges, faults, latency
  Metrics  {url}/metrics

  Stop with Ctrl-C."""
    )
