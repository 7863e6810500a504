"""The compose file is valid, complete and keeps what deploy/README.md promises. `test_compose_stack.py` runs it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import check_jsonschema
import pytest
import yaml
from jsonschema.validators import validator_for

from gateway.commands.serve import serve
from gateway.settings import ENV_OPTIONS, load_settings
from tests.deploy.compose_file import (
    COMPOSE_FILE,
    FOLDER,
    VARIABLE,
    list_bind_sources,
    list_services,
    parse_duration,
    read_compose_file,
)
from tests.deploy.dockerfile_instructions import ROOT

PROFILES = ("live", "sandbox")
SHARED_SERVICES = {"address", "redis", "prometheus", "grafana"}
GATEWAY_ENV_EXAMPLE = FOLDER / "gateway.env.example"


def test_file_matches_the_schema_of_compose() -> None:
    schema_file = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(schema_file.read_text())
    validator = validator_for(schema)(schema)
    content = yaml.safe_load(COMPOSE_FILE.read_text())
    assert [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(content)] == []
    content["services"]["redis"]["restarts"] = "always"
    assert not validator.is_valid(content), "the schema rejects unknown keys"


def test_each_profile_has_two_replicas_of_one_name() -> None:
    for profile, prefix in (("live", "gateway"), ("sandbox", "sandbox-gateway")):
        services = list_services(profile)
        replicas = {name: service for name, service in services.items() if name.startswith(prefix)}
        assert set(replicas) == {f"{prefix}-1", f"{prefix}-2"}
        for service in replicas.values():
            assert service["networks"]["default"]["aliases"] == ["gateway"]
        others = {"sandbox"} if profile == "sandbox" else set()
        assert set(services) - set(replicas) == SHARED_SERVICES | others


def test_every_variable_has_a_default() -> None:
    assert [match[0] for match in VARIABLE.finditer(COMPOSE_FILE.read_text()) if match[2] is None] == []
    assert list_services("sandbox")["sandbox-gateway-1"].get("env_file") is None, "the sandbox needs no file of keys"


def test_mounted_files_exist_and_are_read_only() -> None:
    for name, service in read_compose_file()["services"].items():
        sources = list_bind_sources(service)
        assert [source for source in sources if not source.exists()] == [], name
        assert all(volume["read_only"] for volume in service.get("volumes", []) if volume["type"] == "bind"), name


def test_volumes_and_networks_are_declared() -> None:
    content = read_compose_file()
    for service in content["services"].values():
        volumes = {
            volume["source"]
            for volume in service.get("volumes", [])
            if volume["type"] == "volume" and "source" in volume
        }
        assert volumes <= set(content["volumes"])
        assert set(service.get("networks", [])) <= {"default", *content["networks"]}


def test_every_service_is_hardened() -> None:
    for name, service in read_compose_file()["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_ports_are_published_on_this_machine_only() -> None:
    ports = [port for service in read_compose_file()["services"].values() for port in service.get("ports", [])]
    assert sorted(ports) == ["127.0.0.1:3000:3000", "127.0.0.1:8080:8080", "127.0.0.1:9090:9090"]


@pytest.mark.parametrize("profile", PROFILES)
def test_replicas_drain_before_they_are_killed(profile: str) -> None:
    replica = next(service for name, service in list_services(profile).items() if "gateway-" in name)
    settings = load_settings({"IGW_SECRET": "a secret for every replica", **replica["environment"]})
    assert parse_duration(replica["stop_grace_period"]) > settings.drain_seconds + 10


def test_redis_is_reached_by_replicas_only() -> None:
    content = read_compose_file()
    assert content["networks"]["store"]["internal"]
    members = {name for name, service in content["services"].items() if "store" in service.get("networks", [])}
    assert members == {"redis", "gateway-1", "gateway-2", "sandbox-gateway-1", "sandbox-gateway-2"}


def test_sandbox_replicas_use_existing_options() -> None:
    command = list_services("sandbox")["sandbox-gateway-1"]["command"]
    assert command[0] == serve.name
    options = {name for parameter in serve.params for name in parameter.opts}
    assert {word for word in command if word.startswith("--")} <= options


def test_simulated_sellers_reach_the_callback_url() -> None:
    """It names a service of their network, which listens at this port and passes callbacks on to the replicas."""
    services = list_services("sandbox")
    replicas = [service for name, service in services.items() if "gateway-" in name]
    (url,) = {service["environment"]["IGW_CALLBACK_URL"] for service in replicas}
    parts = urlsplit(url)
    target = services[str(parts.hostname)]
    for service in (target, services["sandbox"]):
        assert "default" in service.get("networks", ["default"])
    assert [port.rpartition(":")[2] for port in target["ports"]] == [str(parts.port)]
    (config,) = list_bind_sources(target)
    assert f"listen {parts.port};" in config.read_text()
    # Clients, which are outside, get other URLs.
    (public_url,) = {service["environment"]["IGW_PUBLIC_URL"] for service in replicas}
    (published,) = target["ports"]
    assert published.startswith(public_url.removeprefix("http://"))


def test_images_of_others_have_the_full_version() -> None:
    images = {name: service["image"] for name, service in read_compose_file()["services"].items()}
    of_others = {name: image for name, image in images.items() if name in SHARED_SERVICES}
    assert {image for name, image in images.items() if name not in SHARED_SERVICES} == {"image-gateway"}
    assert [
        image for image in of_others.values() if not re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-[a-z]+)?", image)
    ] == []


def test_example_of_secrets_has_names_of_the_configuration() -> None:
    names = set(re.findall(r"^(\w+)=$", GATEWAY_ENV_EXAMPLE.read_text(), re.MULTILINE))
    (config,) = list_bind_sources(list_services("live")["gateway-1"])
    text = "".join(path.read_text() for path in config.glob("*.yaml"))
    assert names - set(re.findall(r"env:(\w+)", text)) == {"IGW_SECRET"}
    # Compose prefers these to those in the file.
    assert names.isdisjoint(read_compose_file()["services"]["gateway-1"]["environment"])


def test_settings_of_replicas_exist() -> None:
    known = {option.name for option in ENV_OPTIONS.values()}
    assert set(list_services("live")["gateway-1"]["environment"]) <= known


def test_prometheus_accepts_its_mounted_configuration() -> None:
    command = list_services("live")["prometheus"]["command"]
    (folder,) = list_bind_sources(list_services("live")["prometheus"])
    assert "--config.file=/etc/prometheus/prometheus.yml" in command
    promtool = str(ROOT / ".venv" / "bin" / "promtool")
    result = subprocess.run(
        [promtool, "check", "config", str(folder / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_expected_replicas_are_those_of_a_profile() -> None:
    (folder,) = list_bind_sources(list_services("live")["prometheus"])
    settings = yaml.safe_load((folder / "prometheus.yml").read_text())
    assert "expected_replicas.yaml" in settings["rule_files"]
    (group,) = yaml.safe_load((folder / "expected_replicas.yaml").read_text())["groups"]
    replicas = [name for name in list_services("live") if name.startswith("gateway-")]
    assert [rule["expr"] for rule in group["rules"]] == [f"vector({len(replicas)})"]


def test_grafana_finds_its_data_source_and_dashboards() -> None:
    service = list_services("live")["grafana"]
    targets = {volume["target"]: FOLDER / volume.get("source", "") for volume in service["volumes"]}
    provisioning = targets["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/image-gateway.yaml").read_text())["providers"]
    dashboards = targets[provider["options"]["path"]]
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    content: dict[str, Any] = json.loads((dashboards / home.name).read_text())
    assert content["title"]
