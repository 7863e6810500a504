"""The command line: `image-gateway` and its subcommands."""

import signal
import sys

if sys.argv[1:2] == ["serve"]:
    # Importing the rest takes a second; a SIGHUP (reload the configuration) must not end the process meanwhile.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

import os
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from gateway.commands.exit_codes import CommandFailed, ExitCode
from gateway.timeouts_and_intervals import Timing

CLICK_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
# The module of each command, below gateway.commands.
COMMAND_MODULES = {
    "generate": "image_generation",
    **dict.fromkeys(("wait", "jobs", "job", "cancel"), "job_commands"),
    "serve": "serve",
    "init": "init",
    "check": "check",
    "doctor": "doctor",
    "explain": "explain",
    "keys": "api_key_commands",
    "budgets": "budget_commands",
    "webhooks": "webhook_commands",
    "accounts": "account_list",
    "ledger": "ledger_commands",
    "reconcile": "reconcile_command",
    "audit": "audit",
    "cancel-open": "open_work",
    "sandbox": "sandbox",
    "schema": "schema",
    "completion": "shell_completion",
}


class LazyGroup(click.Group):
    """Imports a command when it is needed: a client starts in a fifth of the time that all modules take."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMAND_MODULES)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise CommandFailed(ExitCode.INTERRUPTED, "Interrupted.") from None

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load_command(cmd_name) if cmd_name in COMMAND_MODULES else None


def load_command(name: str) -> click.Command:
    command: click.Command = getattr(import_module(f"gateway.commands.{COMMAND_MODULES[name]}"), name.replace("-", "_"))
    return command


def open_missing_streams() -> None:
    """Opens the null device for standard streams that the caller closed (`>&-`), where Python has None. Otherwise the
    next file that a command opens, such as a database, would get the number of a stream."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def escape_unprintable_output() -> None:
    """Lets a terminal without Unicode show an escape sequence instead of ending the command with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@click.group(cls=LazyGroup, context_settings=CLICK_SETTINGS)
@click.version_option(package_name="image-gateway", prog_name="image-gateway")
@click.pass_context
def main(context: click.Context) -> None:
    """One image API in front of many sellers.

    The first commands use a running gateway, the others run and administer one.
    """
    open_missing_streams()
    escape_unprintable_output()
    # Tests pass an object of their own, with shorter times.
    context.ensure_object(Timing)


if __name__ == "__main__":
    main()
