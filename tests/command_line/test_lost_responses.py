"""A response that is lost, or a proxy of the environment, does not make the command line buy twice or fail."""

import re
import socket
import threading
from urllib.parse import urlsplit

from gateway.commands.exit_codes import ExitCode
from tests.command_line.client_commands import ClientCommands
from tests.harness.gateway_runner import RunningGateway
from tests.harness.ports import reserve_port


def is_complete_request(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    match = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return match is not None and len(body) >= int(match[1])


class LosingProxy:
    """Forwards the first connection to the gateway and closes it without the response; refuses all others."""

    def __init__(self, gateway_url: str) -> None:
        address = urlsplit(gateway_url)
        self._gateway = (address.hostname, address.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._lose_response)
        self._thread.start()

    def _lose_response(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(self._gateway) as gateway:
            request = b""
            while not is_complete_request(request):
                request += client.recv(65_536)
            gateway.sendall(request)
            assert gateway.recv(65_536).startswith(b"HTTP/1.1 202")
        self._listener.close()

    def join(self) -> None:
        self._thread.join(60)


def test_lost_response_says_how_to_get_the_job_and_buys_once(commands: ClientCommands, gateway: RunningGateway) -> None:
    charges = len(gateway.sandbox.list_charges())
    arguments = ("generate", "a lighthouse", "--quality", "low", "-o", "cat.png")
    proxy = LosingProxy(gateway.url)
    lost = commands.run(*arguments, "--url", proxy.url, "--retry-seconds", "0.5")
    proxy.join()
    assert lost.returncode == ExitCode.UNCONFIRMED, lost.stderr
    match = re.search(r"repeat the command with --idempotency-key (\S+)", lost.stderr)
    assert match is not None, lost.stderr
    commands.run_successfully(*arguments, "--idempotency-key", match[1])
    assert commands.open_image("cat.png").format == "PNG"
    assert len(gateway.sandbox.list_charges()) == charges + 1


def test_proxy_of_the_environment_is_not_used_for_a_local_gateway(commands: ClientCommands) -> None:
    proxy = f"http://127.0.0.1:{reserve_port()}"
    result = commands.run("generate", "a lighthouse", "--quality", "low", "-o", "cat.png", HTTP_PROXY=proxy)
    assert result.returncode == 0, result.stderr
