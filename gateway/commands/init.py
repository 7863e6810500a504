"""`image-gateway init`: the configuration that comes with it, written out to be edited."""

from pathlib import Path

import click

from gateway.config.default_config import DEFAULT_FOLDER, FolderNotEmpty, copy_default_config


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=DEFAULT_FOLDER)
def init(folder: Path) -> None:
    """Write the shipped configuration to FOLDER (default: config), to be edited. Never overwrites anything."""
    try:
        names = copy_default_config(folder)
    except FolderNotEmpty:
        raise click.ClickException(f"{folder} is not empty: name a new folder, or edit what is there") from None
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error.strerror}") from None
    used = "" if folder == DEFAULT_FOLDER else f" --config {folder}"
    click.echo(
        f"""Wrote {len(names)} files to {folder}.

  Edit them; each says what its options mean. Then:

    image-gateway check --without-secrets{used}   is it right, and who wins which order?
    image-gateway serve --sandbox{used}           buy from simulated sellers, for no money
    image-gateway serve{used}                     buy: needs the keys that {folder / "accounts.yaml"} names"""
    )
