"""The commands of deploy/README.md use options, values and variables that exist."""

import re
import shlex
from itertools import pairwise

import click
import helm_python

from gateway.commands.init import init
from gateway.commands.serve import serve
from tests.deploy.compose_file import COMPOSE_FILE, FOLDER, VARIABLE, list_services
from tests.deploy.dockerfile_instructions import DOCKERFILE, list_base_images
from tests.deploy.helm_chart import CHART, render_chart

PAGE = (FOLDER / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


def find_commands(*start: str) -> list[list[str]]:
    found = [command for command in COMMANDS if set(start) <= set(command)]
    assert found, start
    return found


def read_options(command: list[str], name: str) -> list[str]:
    return [value for option, value in pairwise(command) if option == name]


def test_helm_command_renders_the_chart() -> None:
    (command,) = find_commands("helm", "upgrade")
    assert (FOLDER.parent / command[4]).resolve() == CHART
    values = helm_python.parse_set_string(",".join(read_options(command, "--set")))
    files = [setting.split("=")[1] for setting in read_options(command, "--set-file")]
    assert files
    assert all((FOLDER.parent / file).exists() for file in files)
    names = [re.sub(r"^config\.files\.(.*)=.*", r"\1", text) for text in read_options(command, "--set-file")]
    config = {"files": {name.replace("\\.", "."): "models: {}\n" for name in names}}
    assert "ConfigMap" in render_chart({**values, "config": config})


def test_docker_commands_use_existing_files_and_options() -> None:
    (build,) = find_commands("docker", "build")
    assert (FOLDER.parent / read_options(build, "--file")[0]).resolve() == DOCKERFILE
    assert list_base_images()[0].split("=")[0] in PAGE
    (run,) = find_commands("docker", "run")
    arguments = run[run.index("serve") + 1 :]
    assert serve.make_context("serve", arguments, obj=object()).params["use_sandbox"]


def test_compose_commands_use_existing_profiles_and_variables() -> None:
    commands = [command for command in COMMANDS if "compose" in command]
    assert [read_options(command, "--profile") for command in commands] == [["sandbox"], ["live"]]
    for command in commands:
        assert (FOLDER.parent / read_options(command, "--file")[0]).resolve() == COMPOSE_FILE
        assert set(list_services(read_options(command, "--profile")[0])) > {"address", "redis"}
    known = {match[1] for match in VARIABLE.finditer(COMPOSE_FILE.read_text())}
    named = set(
        re.findall(r"`([A-Z_]+)(?:=[^`]*)?`", PAGE.partition("## One machine with Docker")[2].partition("\n## ")[0])
    )
    assert named <= known


def test_systemd_commands_use_existing_files_and_commands() -> None:
    copied = [command[3] for command in COMMANDS if command[:2] == ["install", "-m"]]
    assert len(copied) == 2
    assert all((FOLDER.parent / file).exists() for file in copied)
    (command,) = find_commands("/opt/image-gateway/bin/image-gateway", "init")
    context: click.Context = init.make_context("init", command[2:])
    assert context.command is init
