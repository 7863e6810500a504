"""Fixtures of the seller client's tests."""

from pathlib import Path

import pytest

from tests.upstream.fake_proxies import SCHEMES, ProxyEnvironment
from tests.upstream.tls_certificates import create_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=SCHEMES)
def proxy_environment(request: pytest.FixtureRequest, certificate: Path) -> ProxyEnvironment:
    """A proxy, and sellers behind it with plain HTTP or TLS."""
    return ProxyEnvironment(certificate, request.param)


@pytest.fixture
def tunnel_environment(certificate: Path) -> ProxyEnvironment:
    """A proxy, and sellers behind it with TLS."""
    return ProxyEnvironment(certificate, "https")
