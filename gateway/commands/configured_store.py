"""The store that `serve` would open, for commands that open it themselves."""

import time

import click

from gateway.catalogue import Catalogue
from gateway.commands.config_helpers import load_config
from gateway.components import StoreOptions, make_store
from gateway.settings import Settings
from gateway.store.base import Store
from gateway.task_supervisor import TaskSupervisor


def load_valid_catalogue(settings: Settings) -> Catalogue:
    catalogue = load_config(settings.config, with_secrets=False).catalogue
    if catalogue is None:
        raise click.ClickException(f"{settings.config} is invalid. Run image-gateway check")
    return catalogue


def make_configured_store(settings: Settings, catalogue: Catalogue) -> Store:
    return make_store(
        StoreOptions(settings=settings, config=catalogue.gateway, wall_clock=time.time, supervisor=TaskSupervisor())
    )


def make_existing_store(settings: Settings, catalogue: Catalogue) -> Store:
    """Makes the store for a command that would say nothing true about a new one. Raises ClickException if SQLite has no
    database."""
    if not settings.redis_url and not settings.database.exists():
        raise click.ClickException(
            f"{settings.database} does not exist. Name the gateway's folder with --data or IGW_DATA, or its Redis with "
            "REDIS_URL."
        )
    return make_configured_store(settings, catalogue)
