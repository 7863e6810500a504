"""`image-gateway sandbox`: simulated sellers on this machine."""

import click

from sandbox.server import PortInUseError, SandboxOptions, run_server
from sandbox.state import SandboxState


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65534),
    default=None,
    help="Port for the sellers' APIs; stored files use the next one. 0 picks any two free ports.  "
    "[default: 8090, or the next free pair]",
)
@click.option("--realistic", is_flag=True, help="Use realistic latencies: 10 s to 2 min per image.")
@click.option("--with-parent", is_flag=True, help="Exit when the parent process exits.")
def sandbox(host: str, port: int | None, realistic: bool, with_parent: bool) -> None:
    """Run simulated sellers locally: Runflow, RunAPI and OpenAI over HTTP, free of charge.

    Develop without any seller's key, and inject faults:

    \b
      curl -X POST http://127.0.0.1:8090/_/faults \\
        -d '{"vendor": "runapi", "kind": "reset_after", "times": 1}'

    `GET /_/` lists all faults and other controls.
    """
    try:
        run_server(
            SandboxOptions(host=host, port=port, is_realistic=realistic, stops_with_parent=with_parent), _print_banner
        )
    except PortInUseError as error:
        raise click.ClickException(str(error)) from error


def _print_banner(sandbox: SandboxState) -> None:
    url = sandbox.base_url
    click.echo(f"sandbox listening on {url}")
    click.echo(
        f"""
  Generate an image:

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
