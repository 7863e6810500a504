"""Options that several commands have."""

import errno
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from gateway.commands.exit_codes import CommandFailed, ExitCode, describe_output_error
from gateway.commands.job_client import GatewayConnection
from gateway.commands.option_types import GatewayUrlType, SecondsRange, VisibleTextType
from gateway.commands.output_files import OutputFiles
from gateway.commands.terminal_images import ImageProtocol

ResultT = TypeVar("ResultT")
P = ParamSpec("P")
DEFAULT_URL = "http://127.0.0.1:8080"


class ClientCommand(click.Command):
    """A command that uses a running gateway: output that cannot be written ends it with a message."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            raise CommandFailed(ExitCode.ERROR, describe_output_error(error)) from None


def add_options(*options: Callable[[Any], Any]) -> Callable[[Callable[P, ResultT]], Callable[P, ResultT]]:
    """Returns a decorator that adds the options in this order."""

    def decorate(command: Callable[P, ResultT]) -> Callable[P, ResultT]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


connection_options = add_options(
    click.option(
        "--url",
        type=GatewayUrlType(),
        envvar="IGW_URL",
        default=DEFAULT_URL,
        help=f"The gateway.  [env: IGW_URL; {DEFAULT_URL}]",
    ),
    click.option(
        "--key",
        type=VisibleTextType("API key"),
        envvar="IGW_KEY",
        help="Your team's key.  [env: IGW_KEY; the sandbox's, if the gateway is local]",
    ),
    click.option(
        "--retry-seconds",
        type=SecondsRange(min=0),
        default=120.0,
        help="How long to retry while the gateway is unreachable or busy.  [default: 120; 5 before its first response]",
    ),
    click.option("--json", "wants_json", is_flag=True, help="Print the gateway's response, as JSON."),
)

output_options = add_options(
    click.option(
        "-o",
        "--output",
        type=click.Path(),
        metavar="PATH",
        help="File, folder/, or - for standard output; several images are numbered.  [default: ./JOB.png]",
    ),
    click.option("--force", is_flag=True, help="Replace existing files."),
    click.option("--show", is_flag=True, help="Draw the images in the terminal (kitty, iTerm2, sixel)."),
    click.option(
        "--show-as",
        type=click.Choice([protocol.value for protocol in ImageProtocol]),
        help="Like --show, with this protocol.  [default: the terminal's]",
    ),
    click.option("--timeout", type=SecondsRange(min=0, min_open=True), help="Seconds to wait; the job then continues."),
    click.option("-q", "--quiet", is_flag=True, help="No progress. -q is never --quality."),
)


def to_connection(options: dict[str, Any]) -> GatewayConnection:
    timeout = options.get("timeout")
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    return GatewayConnection(
        url=options["url"], key=options["key"], retry_seconds=options["retry_seconds"], deadline=deadline
    )


def to_output_files(options: dict[str, Any]) -> OutputFiles:
    return OutputFiles(options["output"], options["force"])
