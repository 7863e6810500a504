"""`image-gateway schema`: JSON Schemas, so that an editor completes and checks the YAML while it is written."""

import json
from pathlib import Path

import click

from gateway.config.json_schema import build_json_schema
from gateway.config.offer_schema import OfferFile
from gateway.config.schema import CONFIG_FILES
from gateway.config.schema_base import ConfigStruct

SCHEMA_TYPES: dict[str, type[ConfigStruct]] = {
    name.removesuffix(".yaml"): kind for name, kind in CONFIG_FILES.items()
} | {"offers": OfferFile}


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write <file>.schema.json into.  [default: print one]",
)
@click.argument("kind", type=click.Choice(list(SCHEMA_TYPES)), required=False)
def schema(kind: str | None, output: Path | None) -> None:
    """Write JSON Schemas of the configuration's files.

    \b
    In VS Code, with its YAML extension, let the first line of a file be:
      # yaml-language-server: $schema=schemas/policies.schema.json
    """
    kinds = [kind] if kind else list(SCHEMA_TYPES)
    if output is None:
        if kind is None:
            raise click.UsageError(f"name one of {', '.join(SCHEMA_TYPES)}, or a folder for all of them with --output")
        click.echo(_format_schema(kind))
        return
    output.mkdir(parents=True, exist_ok=True)
    for name in kinds:
        path = output / f"{name}.schema.json"
        path.write_text(_format_schema(name) + "\n")
        click.echo(f"wrote {path}")


def _format_schema(kind: str) -> str:
    return json.dumps(build_json_schema(SCHEMA_TYPES[kind]), indent=2, ensure_ascii=False)
