"""What several tests of the client start from."""

from pathlib import Path

import pytest

from tests.upstream.certified import certificate_in
from tests.upstream.proxies import SCHEMES, Town


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_in(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=SCHEMES)
def town(request: pytest.FixtureRequest, certificate: Path) -> Town:
    """A proxy, and sellers behind it that speak plainly or TLS."""
    return Town(certificate, request.param)


@pytest.fixture
def tunnels(certificate: Path) -> Town:
    """A proxy, and sellers behind it that speak TLS."""
    return Town(certificate, "https")
