"""The command line: `image-gateway` and its subcommands."""

import signal
import sys

if sys.argv[1:2] == ["serve"]:
    # Importing the rest takes a second; a SIGHUP (reload the configuration) must not end the process meanwhile.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

import click

from gateway.commands.api_key_commands import keys
from gateway.commands.audit import audit
from gateway.commands.check import check
from gateway.commands.explain import explain
from gateway.commands.init import init
from gateway.commands.sandbox import sandbox
from gateway.commands.schema import schema
from gateway.commands.serve import serve
from gateway.timeouts_and_intervals import Timing

CLICK_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CLICK_SETTINGS)
@click.version_option(package_name="image-gateway", prog_name="image-gateway")
@click.pass_context
def main(context: click.Context) -> None:
    """One image API in front of many sellers."""
    # Tests call `main` with an object of their own: shorter times.
    context.ensure_object(Timing)


for command in (serve, init, check, explain, keys, audit, sandbox, schema):
    main.add_command(command)

if __name__ == "__main__":
    main()
