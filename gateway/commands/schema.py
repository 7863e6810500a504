"""`image-gateway schema`: JSON Schemas, so that an editor completes and checks the YAML while it is written."""

import json
from pathlib import Path

import click

from gateway.config.block import Block
from gateway.config.blocks import FILES, OfferFile
from gateway.config.describing import schema_of

KINDS: dict[str, type[Block]] = {name.removesuffix(".yaml"): kind for name, kind in FILES.items()} | {
    "offers": OfferFile
}


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write <file>.schema.json into.  [default: print one]",
)
@click.argument("kind", type=click.Choice(list(KINDS)), required=False)
def schema(kind: str | None, output: Path | None) -> None:
    """Write JSON Schemas of the configuration's files.

    \b
    In VS Code, with its YAML extension, let the first line of a file be:
      # yaml-language-server: $schema=schemas/policies.schema.json
    """
    kinds = [kind] if kind else list(KINDS)
    if output is None:
        if kind is None:
            raise click.UsageError(f"name one of {', '.join(KINDS)}, or a folder for all of them with --output")
        click.echo(_text(kind))
        return
    output.mkdir(parents=True, exist_ok=True)
    for name in kinds:
        path = output / f"{name}.schema.json"
        path.write_text(_text(name) + "\n")
        click.echo(f"wrote {path}")


def _text(kind: str) -> str:
    return json.dumps(schema_of(KINDS[kind]), indent=2, ensure_ascii=False)
