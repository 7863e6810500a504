"""`image-gateway sandbox`: the vendors at home."""

import click

from sandbox.server import PortInUseError, SandboxOptions, run_server
from sandbox.state import SandboxState


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65534),
    default=None,
    help="Port for the vendors' APIs; stored files get the next one. 0 takes any two free ports.  "
    "[default: 8090, or the next free pair]",
)
@click.option("--realistic", is_flag=True, help="Take as long as the sellers' own pages say: 10 s to 2 min a picture.")
@click.option("--with-parent", is_flag=True, help="End when the process that started this one ends.")
def sandbox(host: str, port: int | None, realistic: bool, with_parent: bool) -> None:
    """Run the vendors at home: Runflow, RunAPI and OpenAI over real HTTP, for no money.

    Develop against it without any vendor's key, and tell it to misbehave:

    \b
      curl -X POST http://127.0.0.1:8090/_/faults \\
        -d '{"vendor": "runapi", "kind": "reset_after", "times": 1}'

    `GET /_/` lists everything it can be told.
    """
    try:
        run_server(
            SandboxOptions(host=host, port=port, is_realistic=realistic, stops_with_parent=with_parent), _print_banner
        )
    except PortInUseError as error:
        raise click.ClickException(str(error)) from error


def _print_banner(world: SandboxState) -> None:
    url = world.base_url
    click.echo(f"sandbox listening on {url}")
    click.echo(
        f"""
  Draw a picture:

    curl -s {url}/openai/v1/images/generations \\
      -H 'Authorization: Bearer sk-sandbox' -H 'Content-Type: application/json' \\
      -d '{{"model": "gpt-image-2", "prompt": "a lighthouse at dawn", "size": "1024x1024", "quality": "low"}}' \\
      | sed 's/.*"b64_json":"\\([^"]*\\)".*/\\1/' | base64 -d > image.png

  Runflow  {url}/runflow    key rf_sandbox
  RunAPI   {url}/runapi     key sk-sandbox
  OpenAI   {url}/openai/v1  key sk-sandbox
  Control  {url}/_/         charges, faults, latency, balances

  Stop with Ctrl-C."""
    )
