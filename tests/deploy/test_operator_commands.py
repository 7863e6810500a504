"""The commands and settings of docs/operations.md for systemd, compose and Prometheus fit the files in deploy/."""

import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import yaml

from gateway.cli import COMMAND_MODULES
from tests.deploy.compose_file import COMPOSE_FILE, list_services
from tests.deploy.dockerfile_instructions import ROOT, read_stages
from tests.deploy.helm_chart import NAME, REQUIRED_VALUES, render_chart
from tests.deploy.systemd_unit import PROGRAM, read_environ, read_unit

PAGE = (ROOT / "docs" / "operations.md").read_text()
# What decides which files the process may read and write, and as which user.
ACCESS_SETTINGS = {
    *("DynamicUser", "User", "StateDirectory", "StateDirectoryMode", "UMask", "PrivateTmp", "LimitNOFILE"),
    "EnvironmentFile",
}


def read_section(title: str) -> str:
    (section,) = re.findall(rf"^### {title}\n(.*?)^##", PAGE, re.MULTILINE | re.DOTALL)
    return str(section)


def list_commands(title: str) -> list[list[str]]:
    text = "".join(re.findall(r"```bash\n(.*?)```", read_section(title), re.DOTALL))
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]


def read_yaml_blocks(title: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", read_section(title), re.DOTALL)


def test_doctor_runs_under_systemd_as_the_service_does() -> None:
    (command,) = [command for command in list_commands("As the user of the service") if command[0] == "systemd-run"]
    options = [word.removeprefix("--").split("=", 1) for word in command if word.startswith("--")]
    properties = [tuple(value[0].split("=", 1)) for name, *value in options if name == "property"]
    assert dict(properties).keys() == ACCESS_SETTINGS
    assert {name: [value] for name, value in properties} == {name: read_unit()[name] for name in ACCESS_SETTINGS}
    environ = dict(value[0].split("=", 1) for name, *value in options if name == "setenv")
    assert environ == {name: read_environ()[name] for name in ("IGW_CONFIG", "IGW_DATA")}
    assert command[-2:] == [PROGRAM, "doctor"]
    assert command[-1] in COMMAND_MODULES


def test_doctor_runs_in_containers_of_compose() -> None:
    commands = [command for command in list_commands("As the user of the service") if command[0] == "docker"]
    assert len(commands) == 2
    for command in commands:
        options = dict(pairwise(command))
        assert (ROOT / options["--file"]).resolve() == COMPOSE_FILE
        service = "gateway-1"
        assert service in command
        assert service in list_services(options["--profile"])
    run, executed = (command[command.index("gateway-1") + 1 :] for command in commands)
    # `run` adds arguments to the program of the image, `exec` does not.
    assert run == ["doctor"]
    assert executed == [*shlex.split(read_stages()[-1].find_words("ENTRYPOINT")[0]), "doctor"]
    assert run[0] in COMMAND_MODULES


def test_name_of_the_deployment_is_that_of_the_chart() -> None:
    name = NAME.replace("gw", "gateway")
    assert render_chart(REQUIRED_VALUES)["Deployment"]["metadata"]["name"] == NAME
    assert f"deploy/{name} --" in read_section("As the user of the service")
    assert f'deployment="{name}"' in read_section("Who gets the alerts")


def test_settings_of_prometheus_on_the_page_are_valid(tmp_path: Path) -> None:
    alerting, rules = read_yaml_blocks("Who gets the alerts")
    shipped = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    settings = yaml.safe_load(shipped) | yaml.safe_load(alerting) | {"rule_files": ["rules.yaml"]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
    (tmp_path / "rules.yaml").write_text(rules)
    command = [ROOT / ".venv/bin/promtool", "check", "config", tmp_path / "prometheus.yml"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 rules found" in result.stdout
