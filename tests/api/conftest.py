"""Fixtures for tests of the API."""

from tests.harness.shared_gateway import gateway, gateway_process  # noqa: F401  fixtures
