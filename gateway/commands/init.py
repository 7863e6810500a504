"""`image-gateway init`: writes the shipped configuration to a folder."""

from pathlib import Path

import click

from gateway.config.default_config import DEFAULT_FOLDER, FolderNotEmpty, copy_default_config


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=DEFAULT_FOLDER)
def init(folder: Path) -> None:
    """Write the shipped configuration to FOLDER (default: config). Never overwrites a file."""
    try:
        names = copy_default_config(folder)
    except FolderNotEmpty:
        raise click.ClickException(f"{folder} is not empty. Name another folder, or edit its files.") from None
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error.strerror}") from None
    used = "" if folder == DEFAULT_FOLDER else f" --config {folder}"
    click.echo(
        f"""Wrote {len(names)} files to {folder}.

  Edit the files; each explains its options. Then:

    image-gateway check --without-secrets{used}   validate it, and see which seller wins what
    image-gateway serve --sandbox{used}           use simulated sellers, free of charge
    image-gateway serve{used}                     use real sellers: needs the keys of {folder / "accounts.yaml"}"""
    )
