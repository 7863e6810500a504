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

from gateway.api.connections import connections
from gateway.app import Gateway
from gateway.assets.shelf import ShelfError
from gateway.catalogue import Catalogue
from gateway.commands.configured import CONFIG_HELP
from gateway.commands.sandboxed import KEY, SELLERS, sandboxed, unsimulated
from gateway.config.resolving import assumed_secrets, secrets_in
from gateway.config.shipped import DEFAULT_FOLDER, shipped_folder
from gateway.config.watching import ConfigError, Keeper, Reloaded
from gateway.events import fault_of
from gateway.settings import OPTIONS, Settings, SettingsError, settings_from
from gateway.store.base import StoreError
from gateway.telemetry.logs import Logs
from providers import ADAPTERS
from sandbox.runapi_callbacks import CALLBACK_SECRET

SHIPPED = (
    "there is no folder config here, and none was named: the configuration that image-gateway comes with is used; "
    "`image-gateway init` writes it out to be edited"
)
PORTS_TRIED, MOST_PORT = 20, 65_535
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
# How long answers may take to reach those who still wait, when nobody works on jobs here any more.
LAST_ANSWERS_SECONDS, HURRIED_SECONDS = 10, 1
_NAMES = "\n".join(f"  {one.name:18} {one.help} [{one.default or 'none'}]" for one in OPTIONS.values())
HELP = f"""Run the gateway.

Everything can be said in the environment, too; the command line outranks it:

\b
{_NAMES}
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
def serve(use_sandbox: bool, realistic: bool, allow_remote: bool, **given: object) -> None:
    if use_sandbox and given["log_format"] is None and sys.stderr.isatty():
        given["log_format"] = "console"
    with _failures_logged(str(given["log_format"] or os.environ.get("IGW_LOG"))):
        settings = settings_from(os.environ, **given)
        if use_sandbox and settings.host not in LOOPBACK and not allow_remote:
            raise StartError("--sandbox has a public key: say --allow-remote to open it")
        # A trial run that names no port gets the next free one.
        tries = PORTS_TRIED if use_sandbox and given["port"] is None and not os.environ.get("IGW_PORT") else 1
        if use_sandbox:
            with _sandbox(realistic) as url:
                _serve(settings, url, realistic, tries)
        else:
            _serve(settings, None, realistic, tries)


@contextmanager
def _failures_logged(log_format: str) -> Iterator[None]:
    """What keeps the gateway from running is a line of its log, for machines too, and exit code 1."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  a crash is a line, too: its place, since its text may contain a client's words
        logs = Logs("console" if log_format == "console" else "json")
        for problem in _problems_in(error):
            logs.say("error", "start failed", problem=problem)
        logs.close()
        raise SystemExit(1) from None


def _problems_in(error: Exception) -> list[str]:
    if isinstance(error, ConfigError):
        return [str(problem) for problem in error.result.problems]
    is_for_operators = isinstance(error, StartError | StoreError | ShelfError | SettingsError)
    return str(error).splitlines() if is_for_operators else [f"internal error: {fault_of(error)}"]


def _serve(settings: Settings, sandbox: str | None, realistic: bool, tries: int) -> None:
    def keeper(told: Callable[[Reloaded], None]) -> Keeper:
        secrets = assumed_secrets if sandbox else secrets_in(os.environ)
        return Keeper(settings.config, secrets, ADAPTERS, told)

    def change(catalogue: Catalogue) -> Catalogue:
        if sandbox is None:
            return catalogue
        for seller in unsimulated(catalogue):
            gateway.logs.say("warning", "seller left out", seller=seller, why="the sandbox does not play its adapter")
        return sandboxed(catalogue, sandbox, CALLBACK_SECRET, not realistic)

    early = _early_reloads()
    gateway = Gateway(settings, keeper, change)
    with closing(gateway.logs):
        if settings.config == shipped_folder() and not DEFAULT_FOLDER.is_dir():
            gateway.logs.say("warning", "shipped configuration", warning=SHIPPED)
        for warning in gateway.keeper.last.result.warnings if not sandbox else ():
            gateway.logs.say("warning", "configuration", warning=str(warning))
        if sandbox is not None and not gateway.catalogue().sellers:
            raise StartError(f"the sandbox plays the adapters {', '.join(SELLERS)}, and no configured seller uses one")
        _run(gateway, settings, sandbox, early, tries)


def _run(gateway: Gateway, settings: Settings, sandbox: str | None, early: list[int], tries: int) -> None:
    _allow_many_files()
    listening = _listen(settings, tries)
    url = f"http://{_host_shown(settings)}:{listening.getsockname()[1]}"
    gateway.listens_at(url, for_sellers=sandbox is not None)
    with gateway.logs.hearing_libraries():
        try:
            _Server(gateway, early, lambda: _announce(url, sandbox)).run(sockets=[listening])
        except SystemExit:
            # The server's own end where it could not start: what was in the way is told instead.
            if gateway.failure is None:
                raise
    if gateway.failure is not None:
        raise gateway.failure


def _early_reloads() -> list[int]:
    """The SIGHUPs from now until somebody listens to them: what they ask for may have been read before it changed."""
    early: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: early.append(number))
    return early


def _allow_many_files() -> None:
    """A thousand waiting callers and their orders are two thousand connections; the usual limit is half of that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _listen(settings: Settings, tries: int) -> socket.socket:
    for port in range(settings.port, min(settings.port + tries, MOST_PORT + 1)):
        try:
            return _listening_on(settings.host, port)
        except OSError as error:
            reason = error.strerror
            if error.errno != errno.EADDRINUSE:
                break
    place = f"{_host_shown(settings)}:{settings.port}"
    raise StartError(f"{place} cannot be listened on ({reason}): take another with --port or IGW_PORT")


def _listening_on(host: str, port: int) -> socket.socket:
    """On all addresses of a machine that has both kinds, those who come by IPv4 are heard, too."""
    is_six = ":" in host
    both = host == "::" and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_six else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2_048, dualstack_ipv6=both)


def _host_shown(settings: Settings) -> str:
    return f"[{settings.host}]" if ":" in settings.host else settings.host


class _Server(uvicorn.Server):
    """Stops only after running jobs have finished or were handed over, and reads the configuration anew on SIGHUP."""

    def __init__(self, gateway: Gateway, early_reloads: list[int], started: Callable[[], None]) -> None:
        config = uvicorn.Config(
            gateway.app,
            loop="uvloop",
            http=connections(gateway.emit),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
        )
        super().__init__(config)
        self._gateway = gateway
        self._early_reloads = early_reloads
        self._started = started
        self._draining: asyncio.Task[None] | None = None
        self._is_hurried = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._gateway.keeper.reload)
        if self._early_reloads:
            self._gateway.keeper.reload()
        if not self.should_exit:
            self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, a second one hands everything over now, a third does not wait for that, either."""
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        elif self._is_hurried:
            super().handle_exit(sig, frame)
            self.force_exit = True
        else:
            self._is_hurried = True
            self.config.timeout_graceful_shutdown = HURRIED_SECONDS
            self._gateway.hurry()

    async def _drain(self) -> None:
        try:
            await self._gateway.drain()
        finally:
            self.should_exit = True


@contextmanager
def _sandbox(realistic: bool) -> Iterator[str]:
    command = [sys.executable, "-m", "gateway.cli", "sandbox", "--port", "0", "--with-parent"]
    if realistic:
        command.append("--realistic")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:  # noqa: S603
        try:
            yield _announced(process)
        finally:
            process.terminate()


def _announced(process: "subprocess.Popen[str]") -> str:
    for line in process.stdout or ():
        if found := re.search(r"sandbox listening on (\S+)", line):
            return found[1]
    raise StartError("the sandbox did not start")


def _announce(url: str, sandbox: str | None) -> None:
    click.echo(f"image-gateway listening on {url}")
    if sandbox is None:
        return
    click.echo(
        f"""
  Draw a picture:

    curl -s {url}/v1/images/generations \\
      -H 'Authorization: Bearer {KEY}' -H 'Content-Type: application/json' \\
      -d '{{"prompt": "a lighthouse at dawn"}}' \\
      | sed 's/.*"b64_json":"\\([^"]*\\)".*/\\1/' | base64 -d > picture.png

  Sandbox  {sandbox}/_/   what was charged, faults, latency
  Metrics  {url}/metrics

  Stop with Ctrl-C."""
    )
