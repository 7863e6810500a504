"""Rules that the repository's files must follow."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.harness.wait import wait_until

ROOT = Path(__file__).parent.parent
LOCK_FILES = sorted((ROOT / "deploy" / "requirements").glob("*.txt"))


def list_tracked_files() -> list[Path]:
    result = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return [ROOT / name for name in result.stdout.splitlines() if (ROOT / name).is_file()]


def test_redis_node_and_openssl_are_installed(tmp_path: Path) -> None:
    """Starts a Redis server on a socket of its own and runs node once, as later tests do."""
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    server, node = shutil.which("redis-server", path=path), shutil.which("node", path=path)
    assert server is not None
    assert node is not None
    result = subprocess.run([node, "-p", "6*7"], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "42"
    assert shutil.which("openssl"), "certificates of tests are made with it"
    socket_path = tmp_path / "redis.sock"
    command = [server, "--port", "0", "--unixsocket", str(socket_path), "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            assert _send_request(socket_path, b"PING\r\n") == b"+PONG\r\n"
        finally:
            process.terminate()


def _send_request(socket_path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        wait_until(lambda: _is_connected(connection, socket_path), "the server listens at its socket")
        connection.sendall(request)
        return connection.recv(100)


def _is_connected(connection: socket.socket, path: Path) -> bool:
    """Returns whether the connection succeeds. A server makes its socket a moment before it listens there."""
    return connection.connect_ex(str(path)) == 0


@pytest.mark.parametrize("lock", LOCK_FILES, ids=lambda path: path.name)
def test_every_pinned_package_has_hash_and_no_url(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert pins
    assert all(re.match(r"[a-z0-9._-]+==\S+", pin) for pin in pins)
    assert text.count("--hash=sha256:") >= len(pins)


# These check that the shipped files are correct, complete, and shipped.
TESTS_OF_SHIPPED_CONFIG = {
    *("test_broken_configs.py", "test_option_documentation.py", "test_schema.py", "test_wheel.py"),
}


def test_no_other_test_reads_shipped_configuration() -> None:
    """Adding a seller or changing a price must not break tests: all other tests use `tests/config`."""
    pattern = re.compile(r"(?:ROOT|parents\[\d\]\)?|SHIPPED(?:_CONFIG|_FILES)?) / \"config\"")
    readers = {path.name for path in (ROOT / "tests").rglob("*.py") if _reads_shipped_config(path, pattern)}
    assert readers == TESTS_OF_SHIPPED_CONFIG


def _reads_shipped_config(path: Path, pattern: "re.Pattern[str]") -> bool:
    levels = len(path.relative_to(ROOT).parts) - 1
    return any(
        "parents[" not in line or f"parents[{levels}]" in line
        for line in path.read_text().splitlines()
        if pattern.search(line)
    )


def test_no_file_names_a_package_registry() -> None:
    # In two halves, so that this file does not name them either.
    halves = [("py", "pi.org"), ("python", "hosted"), ("npm", "js."), ("registry", ".npm"), ("deb", "ian.org")]
    hosts = re.compile("|".join(re.escape(first + second) for first, second in halves))
    offending = [path for path in list_tracked_files() if hosts.search(path.read_bytes().decode("utf-8", "replace"))]
    assert offending == []


@pytest.mark.parametrize(
    "page",
    [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "deploy" / "README.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_between_pages_resolve(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_architecture_page_names_only_existing_files() -> None:
    """Paths start at the root or in `gateway/`. A file named without its folder is a module of the gateway."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    names = [name for name in re.findall(r"`(\w[\w./]*)`", page) if name.endswith(".py") or "/" in name]
    assert names
    assert [name for name in names if not _is_existing_file(name)] == []


def _is_existing_file(name: str) -> bool:
    gateway = ROOT / "gateway"
    return (ROOT / name).exists() or (gateway / name).exists() or ("/" not in name and any(gateway.rglob(name)))
