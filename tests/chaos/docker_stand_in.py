"""Stands in for `docker compose` in the commands of docs/operations.md: runs as a process what they run in a container.

The variable DOCKER_STAND_IN has the folders that stand for the volumes, and the port of Redis. Services, profiles and
volumes must be those of the compose file. `up` and `down` do nothing: the test starts and ends its processes itself.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

from tests.deploy.compose_file import COMPOSE_FILE, list_services
from tests.deploy.dockerfile_instructions import ROOT, read_stages

VOLUME_TARGET = "/data"


class StandInSetup(Struct, frozen=True):
    """`volumes`: the folder of each volume."""

    volumes: dict[str, str]
    redis_port: int


def write_stand_in(folder: Path, setup: StandInSetup) -> dict[str, str]:
    """Writes the program `docker` into the folder. Returns the variables that it needs."""
    program = folder / "docker"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m {__name__} "$@"\n')
    program.chmod(0o755)
    return {"DOCKER_STAND_IN": json.dumps({"volumes": setup.volumes, "redis_port": setup.redis_port})}


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("docker compose")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("down")
    up = commands.add_parser("up")
    for name in ("--detach", "--wait"):
        up.add_argument(name, action="store_true")
    for name in ("exec", "run"):
        command = commands.add_parser(name)
        command.add_argument("-T", action="store_true", required=True)
        if name == "run":
            command.add_argument("--rm", action="store_true", required=True)
            command.add_argument("--no-deps", action="store_true")
            command.add_argument("--entrypoint")
        command.add_argument("service")
        command.add_argument("words", nargs=argparse.REMAINDER)
    return parser.parse_args(words)


def find_volume(service: str) -> str:
    """Returns the name of the volume that the service has at /data."""
    volumes = list_services(os.environ["COMPOSE_PROFILES"])[service]["volumes"]
    (name,) = [volume["source"] for volume in volumes if volume["target"] == VOLUME_TARGET]
    return str(name)


def build_command(arguments: argparse.Namespace, folder: str, redis_port: int) -> list[str]:
    words = [word.replace(VOLUME_TARGET, folder) for word in arguments.words]
    if words[0] == "redis-cli":
        return ["redis-cli", "-p", str(redis_port), *words[1:]]
    if arguments.command == "exec" or arguments.service == "redis":
        # The entry point of Redis' image executes any other program than redis-server as it is.
        return words
    entry_point = [arguments.entrypoint] if arguments.entrypoint else read_stages()[-1].find_words("ENTRYPOINT")
    return [*entry_point, *words]


def main() -> int:
    assert sys.argv[1] == "compose"
    assert (ROOT / os.environ["COMPOSE_FILE"]).resolve() == COMPOSE_FILE
    arguments = parse_arguments(sys.argv[2:])
    if arguments.command in ("up", "down"):
        return 0
    setup = json.loads(os.environ["DOCKER_STAND_IN"])
    folder = setup["volumes"][find_volume(arguments.service)]
    command = build_command(arguments, folder, setup["redis_port"])
    # Redis' image works in the folder of its volume.
    return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
