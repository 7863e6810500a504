"""`image-gateway schema`: JSON Schemas, so that editors complete and validate the YAML files."""

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
    """Write JSON Schemas of the configuration files.

    \b
    In VS Code with the YAML extension, start a file with:
      # yaml-language-server: $schema=schemas/policies.schema.json
    """
    kinds = [kind] if kind else list(SCHEMA_TYPES)
    if output is None:
        if kind is None:
            kinds_text = ", ".join(SCHEMA_TYPES)
            raise click.UsageError(f"name one of {kinds_text}, or write all of them with --output FOLDER")
        click.echo(_format_schema(kind))
        return
    output.mkdir(parents=True, exist_ok=True)
    for name in kinds:
        path = output / f"{name}.schema.json"
        path.write_text(_format_schema(name) + "\n")
        click.echo(f"wrote {path}")


def _format_schema(kind: str) -> str:
    return json.dumps(build_json_schema(SCHEMA_TYPES[kind]), indent=2, ensure_ascii=False)
