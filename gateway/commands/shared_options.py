"""Options that several commands have."""

import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from gateway.commands.job_client import GatewayConnection
from gateway.commands.output_files import OutputFiles
from gateway.commands.terminal_images import ImageProtocol

ResultT = TypeVar("ResultT")
P = ParamSpec("P")
DEFAULT_URL = "http://127.0.0.1:8080"


def parse_pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    if invalid := [value for value in values if "=" not in value]:
        raise click.BadParameter(f"{invalid[0]!r} is not name=value")
    return dict(value.split("=", 1) for value in values)


def add_options(*options: Callable[[Any], Any]) -> Callable[[Callable[P, ResultT]], Callable[P, ResultT]]:
    """Returns a decorator that adds the options in this order."""

    def decorate(command: Callable[P, ResultT]) -> Callable[P, ResultT]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


connection_options = add_options(
    click.option("--url", envvar="IGW_URL", default=DEFAULT_URL, help=f"The gateway.  [env: IGW_URL; {DEFAULT_URL}]"),
    click.option(
        "--key", envvar="IGW_KEY", help="Your team's key.  [env: IGW_KEY; the sandbox's, if the gateway is local]"
    ),
    click.option(
        "--retry-seconds",
        type=click.FloatRange(min=0),
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
    click.option(
        "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait; the job then continues."
    ),
    click.option("-q", "--quiet", is_flag=True, help="No progress."),
)


def to_connection(options: dict[str, Any]) -> GatewayConnection:
    timeout = options.get("timeout")
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    return GatewayConnection(
        url=options["url"], key=options["key"], retry_seconds=options["retry_seconds"], deadline=deadline
    )


def to_output_files(options: dict[str, Any]) -> OutputFiles:
    return OutputFiles(options["output"], options["force"])
