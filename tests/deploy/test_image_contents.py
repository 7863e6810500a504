"""The image, built by the Dockerfile's own steps, is complete and runs unprivileged with a read-only root."""

import base64
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.deploy.dockerfile_instructions import Stage, read_stages
from tests.deploy.image_builder import MEMORY_MB, ImageLayer, build_image
from tests.harness.child_spec import NO_CHANGES
from tests.harness.gateway_process import API_KEY, GatewayProcess
from tests.harness.tmpfs import mount_tmpfs

# The whole build takes half a minute, most of it to download the packages.
pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageLayer]:
    with mount_tmpfs(tmp_path_factory.mktemp("image") / "layers", MEMORY_MB) as folder:
        folder.chmod(0o755)
        with build_image(folder) as layer:
            yield layer


@pytest.fixture(scope="module")
def final_stage() -> Stage:
    return read_stages()[-1]


class ImageProcess(GatewayProcess):
    """The entry point of the image, as its user, in its environment and with a root that cannot be written.

    The process has a mount namespace of its own. There, /data and /tmp are fresh folders.
    """

    def __init__(self, folder: Path, image: ImageLayer, stage: Stage) -> None:
        super().__init__(folder, child=NO_CHANGES, start_method="exec")
        self._image, self._stage = image, stage

    def make_program(self) -> list[str]:
        user, _, group = self._stage.find_words("USER")[0].partition(":")
        root = self._image.root
        script = f"""
            mount --make-rprivate /
            for folder in data tmp; do
                mount -t tmpfs -o mode=1777 $folder {root}/$folder
            done
            mount -o remount,ro {root}
            exec chroot --userspec={user}:{group} {root} /bin/sh -c 'cd "$0" && exec "$@"' "$@"
        """
        words = self._stage.find_words("ENTRYPOINT")
        return ["unshare", "--mount", "bash", "-euc", script, "-", self._stage.find_words("WORKDIR")[0], *words]

    def make_arguments(self) -> list[str]:
        return [*self._stage.find_words("CMD"), "--sandbox", "--allow-remote"]

    def make_environ(self) -> dict[str, str]:
        return {**self._image.environ, "IGW_PORT": str(self.port)}

    def run_health_check(self) -> int:
        """Runs the image's health check in the process' own view of the files."""
        words = self._stage.find_words("HEALTHCHECK")[1:]
        command = ["nsenter", f"--target={self.pid}", "--mount", f"--root={self._image.root}", *words]
        return subprocess.run(command, env=self.make_environ(), check=False, timeout=60).returncode


def test_image_draws_picture_unprivileged_on_read_only_root(
    image: ImageLayer, final_stage: Stage, tmp_path: Path
) -> None:
    with ImageProcess(tmp_path, image, final_stage) as gateway:
        gateway.start()
        status = Path(f"/proc/{gateway.pid}/status").read_text()
        assert "Uid:\t10001\t10001" in status
        with gateway.make_client(timeout_seconds=60, api_key=API_KEY) as client:
            response = client.post("/v1/images/generations", json={"prompt": "a lighthouse", "quality": "low"})
        assert response.status_code == 200, response.text
        content = base64.b64decode(response.json()["data"][0]["b64_json"])
        with Image.open(io.BytesIO(content)) as picture:
            assert (picture.format, picture.size) == ("PNG", (1024, 1024))
        assert gateway.run_health_check() == 0
        # Everything that it writes is in /data.
        data = Path(f"/proc/{gateway.pid}/root/data")
        assert {"secret", "gateway.db"} <= set(os.listdir(data))
        gateway.stop()
    assert "using shipped configuration" in gateway.stderr


def test_image_has_no_compiler_no_build_backend_and_no_pip(image: ImageLayer) -> None:
    files = {path.name for path in (image.added / "opt/image-gateway/bin").iterdir()}
    assert "image-gateway" in files
    assert [name for name in files if name.startswith(("pip", "hatch", "gcc"))] == []
    (packages,) = (image.added / "opt/image-gateway/lib").glob("python*/site-packages")
    names = {path.name.partition("-")[0] for path in packages.glob("*.dist-info")}
    assert "image_gateway" in names
    assert names.isdisjoint({"pip", "setuptools", "hatchling", "editables", "pathspec"})


def test_image_adds_only_its_own_files(image: ImageLayer) -> None:
    # The rest stands in for the base image.
    added = {str(path.relative_to(image.added)) for path in image.added.glob("*/*") if "local" not in path.name}
    assert {"opt/image-gateway", "srv/image-gateway"} <= added
    assert {name for name in added if not name.startswith(("root/", "usr/"))} == {
        "opt/image-gateway",
        "srv/image-gateway",
    }
    data = (image.added / "data").stat()
    assert (data.st_uid, data.st_gid, list((image.added / "data").iterdir())) == (10_001, 10_001, [])
