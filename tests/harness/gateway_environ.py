"""Environments of gateways."""

import os
from pathlib import Path


def get_clean_environ() -> dict[str, str]:
    """Returns the environment without variables that configure a gateway."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("IGW_", "REDIS_", "OTEL_"))}


def make_redis_environ(redis_url: str, images_folder: Path) -> dict[str, str]:
    """Returns the environment of replicas that share a Redis and a folder of images."""
    return {
        "REDIS_URL": redis_url,
        "IGW_SECRET": "a secret for every replica",
        "IGW_ASSETS": str(images_folder),
        "IGW_ASSETS_SHARED": "yes",
    }
