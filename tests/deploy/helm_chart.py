"""The Helm chart, rendered by Helm's own library, without a cluster."""

from pathlib import Path
from typing import Any

import helm_python
import yaml

from tests.deploy.dockerfile_instructions import ROOT

CHART = ROOT / "deploy" / "kubernetes"
NAME = "gw-image-gateway"
REQUIRED_VALUES = {
    "image": {"repository": "registry.example/image-gateway"},
    "existingSecrets": ["gateway-secrets"],
    "images": {"url": "s3://bucket/images"},
}
CONFIG_FILES = {"teams.yaml": "teams: {}\n", "offers/runapi.yaml": 'account: "runapi"\n'}
# Everything that can be enabled.
ALL_VALUES: dict[str, Any] = {
    **REQUIRED_VALUES,
    "image": {**REQUIRED_VALUES["image"], "digest": f"sha256:{'0' * 64}", "pullSecrets": ["registry"]},
    "images": {"volume": {"enabled": True, "storageClass": "shared"}},
    "environment": {"IGW_LOG_LEVEL": "debug"},
    "publicUrl": "https://images.example.com",
    "config": {"files": CONFIG_FILES, "reload": "rollout"},
    "service": {"annotations": {"a": "b"}},
    "ingress": {"enabled": True, "className": "nginx", "host": "images.example.com", "tlsSecret": "tls"},
    "autoscaling": {"enabled": True},
    "networkPolicy": {
        "from": [{"namespaceSelector": {"matchLabels": {"name": "clients"}}}],
        "redis": [{"podSelector": {"matchLabels": {"app": "redis"}}}],
        "egress": [{"ports": [{"port": 8443}]}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "serviceAccount": {"annotations": {"role": "images"}},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "images", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}


def render_chart(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the manifests by kind. The chart has one of each."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        texts = chart.render(values, name="gw", namespace="images")
    manifests = [yaml.safe_load(text) for path, text in texts.items() if Path(path).suffix == ".yaml"]
    by_kind = {manifest["kind"]: manifest for manifest in manifests if manifest}
    assert len(by_kind) == sum(manifest is not None for manifest in manifests)
    return by_kind


def find_container(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (container,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    result: dict[str, Any] = container
    return result


def read_environ(manifests: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in find_container(manifests)["env"]}
