"""The software bill of materials lists the pinned packages, and the README says how many the gateway needs."""

import json
import re
import subprocess
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.harness.gateway_runner import ROOT

LOCK = (ROOT / "deploy/requirements/runtime.txt").read_text()
PINNED = set(re.findall(r"^[a-z][\w.-]*==[\w.!]+", LOCK, re.MULTILINE))
README = " ".join((ROOT / "README.md").read_text().split())


def list_runtime_packages() -> set[str]:
    """Lists the packages that the installed gateway needs on this platform, with those that they need."""
    found: set[str] = set()
    unvisited = {("image-gateway", "")}
    while unvisited:
        name, extra = unvisited.pop()
        for needed in map(Requirement, requires(name) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                packages = {(needed.name.lower().replace("_", "-"), extra) for extra in ("", *needed.extras)}
                unvisited |= {package for package in packages if package[0] not in found}
                found.add(needed.name.lower().replace("_", "-"))
    return found


def write_bill(path: Path) -> dict[str, Any]:
    """Runs the command of `make sbom`, which also validates its output."""
    [command] = re.findall(r"^\t(\.venv-sbom/.*\n.*)--output-file", (ROOT / "Makefile").read_text(), re.MULTILINE)
    command = command.replace("\\\n", "")
    subprocess.run([*command.split(), "--output-file", path], cwd=ROOT, check=True, capture_output=True, timeout=60)
    bill: dict[str, Any] = json.loads(path.read_text())
    return bill


@pytest.mark.thorough
def test_bill_lists_every_pinned_package_with_its_hashes(tmp_path: Path) -> None:
    bill = write_bill(tmp_path / "sbom.cdx.json")
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "image-gateway")
    listed = {f"{component['name']}=={component['version']}" for component in bill["components"]}
    assert listed == PINNED
    assert all(component["externalReferences"][0]["hashes"] for component in bill["components"])
    assert write_bill(tmp_path / "again.json") == bill


def test_readme_has_the_number_of_packages_in_the_bill() -> None:
    """Which are the pinned ones, as the test above shows."""
    [number] = re.findall(r"`make sbom` writes the bill of materials \(CycloneDX\) of all (\d+)", README)
    assert int(number) == len(PINNED)


def test_readme_has_the_number_of_runtime_packages() -> None:
    packages = list_runtime_packages()
    assert all(f"\n{name}==" in f"\n{LOCK}" for name in packages)
    [number] = re.findall(r"(\d+) packages at run time", README)
    assert int(number) == len(packages), sorted(packages)
