"""The shared gateway, and the command line that uses it."""

import pytest

from tests.command_line.client_commands import ClientCommands
from tests.harness.gateway_runner import RunningGateway
from tests.harness.shared_gateway import gateway, gateway_process

__all__ = ["commands", "gateway", "gateway_process"]


@pytest.fixture
def commands(gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> ClientCommands:
    return ClientCommands(gateway.url, tmp_path_factory.mktemp("commands"))
