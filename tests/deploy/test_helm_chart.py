"""The Helm chart: its manifests match Kubernetes' schemas, and keep what deploy/README.md promises."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from gateway.api.unknown_routes import ALIAS_PREFIXES, UNLISTED_PREFIXES
from gateway.cli import COMMAND_MODULES
from gateway.config.config_file_reader import read_folder
from gateway.settings import load_settings
from tests.deploy.dockerfile_instructions import read_stages
from tests.deploy.helm_chart import (
    ALL_VALUES,
    CHART,
    CONFIG_FILES,
    NAME,
    REQUIRED_VALUES,
    find_container,
    read_environ,
    render_chart,
)

# The oldest version that Chart.yaml allows, and the newest whose schemas exist.
KUBERNETES_VERSIONS = ("1.27.0", "1.37.0")
DEFAULT_KINDS = {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
ALL_KINDS = {
    *DEFAULT_KINDS,
    *("ConfigMap", "HorizontalPodAutoscaler", "Ingress", "PersistentVolumeClaim", "ServiceMonitor"),
}
# Their schemas belong to the Prometheus Operator, and are in no package.
CUSTOM_KINDS = {"ServiceMonitor"}


@pytest.mark.parametrize("values", [REQUIRED_VALUES, ALL_VALUES], ids=["required", "all"])
def test_linter_finds_nothing(values: dict[str, Any]) -> None:
    report = helm_python.lint(CHART, values, strict=True, kube_version="v1.27.0")
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize(
    ("values", "kinds"), [(REQUIRED_VALUES, DEFAULT_KINDS), (ALL_VALUES, ALL_KINDS)], ids=["required", "all"]
)
def test_manifests_match_schemas_of_kubernetes(values: dict[str, Any], kinds: set[str], version: str) -> None:
    manifests = render_chart(values)
    assert set(manifests) == kinds
    for kind in kinds - CUSTOM_KINDS:
        kubernetes_validate.validate(manifests[kind], version, strict=True)


def test_schemas_of_kubernetes_reject_unknown_fields() -> None:
    deployment = render_chart(REQUIRED_VALUES)["Deployment"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readOnly"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnly"):
        kubernetes_validate.validate(deployment, "1.37.0", strict=True)


# --- values


def iterate_properties(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in schema.get("properties", {}).items():
        if path or name != "global":
            yield f"{path}{name}", value
            yield from iterate_properties(value, f"{path}{name}.")


def iterate_values(values: dict[str, Any], known: set[str], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{path}{name}"
        if isinstance(value, dict) and any(other.startswith(f"{path}{name}.") for other in known):
            yield from iterate_values(value, known, f"{path}{name}.")


def test_schema_describes_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    properties = dict(iterate_properties(schema))
    assert [name for name, value in properties.items() if not value.get("description")] == []
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(iterate_values(values, set(properties))) == set(properties)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"image": {"repository": ""}}, "repository"),
        ({"existingSecrets": []}, "existingSecrets"),
        ({"replica": 3}, "replica"),
        ({"networkPolicy": {"form": []}}, "form"),
        ({"drainSeconds": "130"}, "drainSeconds"),
        ({"environment": {"IGW_SECRET": "a secret in a manifest"}}, "IGW_SECRET"),
        ({"environment": {"RUNAPI_API_KEY": "a secret in a manifest"}}, "RUNAPI_API_KEY"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "a secret in a manifest"}}, "AWS_SECRET_ACCESS_KEY"),
        ({"environment": {"IGW_KEY_DESIGN": "a secret in a manifest"}}, "IGW_KEY_DESIGN"),
        ({"environment": {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=x"}}, "OTEL_EXPORTER_OTLP_HEADERS"),
        ({"config": {"files": {"../x.yaml": "x"}}}, r"\.\./x\.yaml"),
        ({"publicUrl": "images.example.com"}, "publicUrl"),
        ({"image": {"repository": "x", "digest": "latest"}}, "digest"),
        ({"images": {"url": "s3://key:secret@bucket/images"}}, "images/url"),
        ({"images": {"url": "s3://key@bucket"}}, "images/url"),
        ({"images": {"url": "s3://key%40bucket"}}, "images/url"),
        ({"images": {"url": "s3://bucket?secret_access_key=secret"}}, "images/url"),
        ({"images": {"url": "s3://bucket?region=eu&access_key_id=key"}}, "images/url"),
        ({"images": {"url": "s3://bucket?endpoint=https://user:secret@minio"}}, "images/url"),
        ({"images": {"url": "s3://bucket?endpoint=https://user:secret%40minio"}}, "images/url"),
        ({"images": {"url": "az://bucket#sig=secret"}}, "images/url"),
        ({"images": {"url": "file:///images"}}, "images/url"),
        ({"serviceMonitor": {"enabled": True, "interval": "31s"}}, "serviceMonitor/interval"),
        ({"serviceMonitor": {"enabled": True, "interval": "10m"}}, "serviceMonitor/interval"),
    ],
)
def test_invalid_value_is_refused_by_name(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(helm_python.HelmError, match=problem):
        render_chart({**REQUIRED_VALUES, **values})


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/images",
        "s3://bucket?region=eu-central-1&endpoint=http://minio.storage:9000",
        "gs://bucket",
        "az://container/images?account=images",
    ],
)
def test_storage_url_without_credentials_is_passed_on(url: str) -> None:
    assert read_environ(render_chart({**REQUIRED_VALUES, "images": {"url": url}}))["IGW_ASSETS"] == url


def test_defaults_say_what_is_missing() -> None:
    with pytest.raises(helm_python.HelmError, match="existingSecrets") as error:
        render_chart({})
    assert "repository" in str(error.value)


@pytest.mark.parametrize("images", [{"url": ""}, {"url": "s3://bucket", "volume": {"enabled": True}}])
def test_images_have_exactly_one_place(images: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError, match=r"either images\.url .* or images\.volume"):
        render_chart({**REQUIRED_VALUES, "images": images})


# --- pods


@pytest.mark.parametrize("values", [REQUIRED_VALUES, ALL_VALUES], ids=["required", "all"])
def test_gateway_accepts_the_settings_of_its_pods(values: dict[str, Any]) -> None:
    manifests = render_chart(values)
    secrets = {"IGW_SECRET": "a secret for every replica", "REDIS_URL": "redis://redis:6379/0"}
    settings = load_settings({**read_environ(manifests), **secrets})
    grace_seconds = manifests["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    (pause, seconds) = find_container(manifests)["lifecycle"]["preStop"]["exec"]["command"]
    assert pause == "sleep"
    assert grace_seconds > settings.drain_seconds + int(seconds) + 10
    assert set(find_container(manifests)["args"]) <= set(COMMAND_MODULES)


def test_secrets_are_references_only() -> None:
    manifests = render_chart(ALL_VALUES)
    assert "Secret" not in manifests
    assert find_container(manifests)["envFrom"] == [{"secretRef": {"name": "gateway-secrets"}}]
    assert all("value" in entry for entry in find_container(manifests)["env"])


def test_pods_are_hardened_and_run_as_the_user_of_the_image() -> None:
    manifests = render_chart(REQUIRED_VALUES)
    spec = manifests["Deployment"]["spec"]["template"]["spec"]
    user, _, group = read_stages()[-1].find_words("USER")[0].partition(":")
    context = spec["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))
    assert context["runAsNonRoot"]
    assert find_container(manifests)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not spec["automountServiceAccountToken"]


def test_writable_folders_are_those_of_the_image() -> None:
    final_stage = read_stages()[-1]
    manifests = render_chart({**REQUIRED_VALUES, "config": {"files": CONFIG_FILES}})
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in find_container(manifests)["volumeMounts"]}
    config = f"{final_stage.find_words('WORKDIR')[0]}/config"
    assert mounts == {"/data": False, "/tmp": False, config: True}  # noqa: S108
    assert final_stage.find_words("VOLUME") == ("/data",)


def test_only_readiness_depends_on_the_store() -> None:
    container = find_container(render_chart(REQUIRED_VALUES))
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


def test_mounted_configuration_has_the_files_of_the_values(tmp_path: Path) -> None:
    """Writes the files as Kubernetes does, and reads them as the gateway does."""
    manifests = render_chart({**REQUIRED_VALUES, "config": {"files": CONFIG_FILES}})
    volumes = manifests["Deployment"]["spec"]["template"]["spec"]["volumes"]
    (volume,) = [volume["configMap"] for volume in volumes if volume["name"] == "config"]
    assert volume["name"] == manifests["ConfigMap"]["metadata"]["name"]
    version = tmp_path / "..2026_11_27"
    for item in volume["items"]:
        path = version / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(manifests["ConfigMap"]["data"][item["key"]])
    (tmp_path / "..data").symlink_to(version.name)
    for name in ("teams.yaml", "offers"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    contents = {name: content.decode() for name, content in read_folder(tmp_path).contents.items()}
    assert contents == CONFIG_FILES


def test_changed_configuration_replaces_pods_only_if_requested() -> None:
    def render_pods(reload: str, content: str) -> object:
        files = {**CONFIG_FILES, "teams.yaml": content}
        manifests = render_chart({**REQUIRED_VALUES, "config": {"files": files, "reload": reload}})
        assert manifests["ConfigMap"]["data"]["teams.yaml"] == content
        return manifests["Deployment"]["spec"]["template"]

    assert render_pods("watch", "teams: {}\n") == render_pods("watch", "teams: {a: {}}\n")
    assert render_pods("rollout", "teams: {}\n") != render_pods("rollout", "teams: {a: {}}\n")


def test_every_selector_selects_the_pods() -> None:
    manifests = render_chart(ALL_VALUES)
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors)
    monitor = manifests["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= manifests["Service"]["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in manifests["Service"]["spec"]["ports"]}
    assert manifests["Service"]["metadata"]["labels"][monitor["jobLabel"]] == "image-gateway"


def test_autoscaler_owns_the_number_of_replicas() -> None:
    assert render_chart(REQUIRED_VALUES)["Deployment"]["spec"]["replicas"] == 2
    manifests = render_chart(ALL_VALUES)
    assert "replicas" not in manifests["Deployment"]["spec"]
    scaler = manifests["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == NAME == manifests["Deployment"]["metadata"]["name"]
    assert scaler["metrics"][0]["pods"]["metric"]["name"] == "igw_jobs_in_flight"
    assert scaler["behavior"]["scaleDown"]["policies"][0]["periodSeconds"] > 130


def test_autoscaler_with_more_replicas_at_least_than_at_most_is_refused() -> None:
    def render_autoscaler(least: int, most: int) -> object:
        autoscaling = {"enabled": True, "minReplicas": least, "maxReplicas": most}
        return render_chart({**REQUIRED_VALUES, "autoscaling": autoscaling})["HorizontalPodAutoscaler"]

    assert render_autoscaler(3, 3)
    with pytest.raises(helm_python.HelmError, match=r"minReplicas must not be greater than autoscaling\.maxReplicas"):
        render_autoscaler(7, 6)


@pytest.mark.parametrize(
    ("values", "is_valid"),
    [
        ({"replicas": 2, "podDisruptionBudget": {"maxUnavailable": 2}}, False),
        ({"replicas": 3, "podDisruptionBudget": {"maxUnavailable": 2}}, True),
        ({"replicas": 1}, True),
        ({"replicas": 9, "autoscaling": {"enabled": True}, "podDisruptionBudget": {"maxUnavailable": 2}}, False),
    ],
)
def test_one_replica_stays_when_nodes_are_drained(values: dict[str, Any], is_valid: bool) -> None:
    if is_valid:
        assert "PodDisruptionBudget" in render_chart({**REQUIRED_VALUES, **values})
        return
    with pytest.raises(helm_python.HelmError, match="must be less than the number of replicas"):
        render_chart({**REQUIRED_VALUES, **values})


def test_ingress_passes_on_what_clients_and_sellers_need() -> None:
    paths = {path["path"] for path in render_chart(ALL_VALUES)["Ingress"]["spec"]["rules"][0]["http"]["paths"]}
    assert {prefix.rstrip("/") for prefix in (*UNLISTED_PREFIXES, *ALIAS_PREFIXES, "/v1")} <= paths
    assert paths.isdisjoint({"/", "/metrics", "/readyz", "/livez"})


def test_network_policy_allows_sellers_dns_and_redis_only() -> None:
    policy = render_chart(REQUIRED_VALUES)["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    ports = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 443, 6379]
    (https,) = [rule for rule in policy["egress"] if rule["ports"][0]["port"] == 443]
    assert "169.254.0.0/16" in https["to"][0]["ipBlock"]["except"], "the cloud's metadata service is not public"
