"""A command survives a restart of its gateway: before the job exists, and in the middle of it."""

from pathlib import Path

from tests.chaos.store_setups import create_store_setup
from tests.command_line.client_commands import ClientCommands
from tests.harness.gateway_process import GatewayProcess
from tests.harness.sandbox_runner import RunningSandbox


def test_command_survives_kill_of_the_gateway_and_buys_once(tmp_path: Path, sandbox: RunningSandbox) -> None:
    setup = create_store_setup(tmp_path, sandbox, None)
    commands = ClientCommands("", tmp_path / "commands")
    commands.folder.mkdir()
    sandbox.hold_orders()
    with GatewayProcess(setup.folder, setup.config, setup.environ) as gateway:
        commands.environ["IGW_URL"] = gateway.url
        with commands.start("generate", "a lighthouse", "--quality", "low", "-o", "cat.png") as running:
            running.wait_for_stderr("is unreachable (ConnectError). Retrying.")
            gateway.start()
            running.wait_for_stderr(": in progress at ")
            gateway.kill()
            gateway.start()
            sandbox.release_orders()
            assert running.wait() == 0, running.stderr
    assert commands.open_image("cat.png").format == "PNG"
    assert len(sandbox.list_charges()) == 1
