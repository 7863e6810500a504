"""The parts of `doctor` that no installation shows: file systems, hanging checks, redaction."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.assets.storage import StorageUnavailable
from gateway.commands.doctor import storage_checks
from gateway.commands.doctor.blocking_calls import call_in_thread
from gateway.commands.doctor.check_runner import run_checks
from gateway.commands.doctor.doctor_context import DoctorContext, get_local_url
from gateway.commands.doctor.doctor_finding import DoctorFinding, Status, redact_findings
from gateway.commands.doctor.file_systems import find_file_system_type, is_network_type
from gateway.settings import load_settings

MOUNTS = r"""
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:20 / /proc rw - proc proc rw
30 21 0:30 / /var/lib/images rw shared:1 - nfs4 server:/export rw
31 21 0:31 / /mnt/with\040space rw - fuse.sshfs host:/ rw
32 21 0:32 / /run rw - tmpfs tmpfs rw
33 32 0:33 / /run rw - overlay overlay rw
34 21 0:34 / /short rw -
garbage
"""


def make_context(**environ: str) -> DoctorContext:
    settings = load_settings(environ)
    return DoctorContext(
        settings=settings,
        config=None,
        catalogue=None,
        gateway_url=get_local_url(settings),
        timeout_seconds=0.1,
        environ=environ,
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/srv/data", "ext4"),
        ("/var/lib/images/48", "nfs4"),
        ("/var/lib/images-2", "ext4"),
        ("/mnt/with space/x", "fuse.sshfs"),
        ("/run/data", "overlay"),
    ],
)
def test_file_system_of_a_path(tmp_path: Path, path: str, expected: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert find_file_system_type(Path(path), mounts) == expected


def test_unknown_file_system_where_the_system_shows_none(tmp_path: Path) -> None:
    assert find_file_system_type(Path("/"), tmp_path / "missing") == "unknown"


@pytest.mark.parametrize(
    ("kind", "expected"), [("nfs4", True), ("fuse.sshfs", True), ("fuse.ntfs-3g", False), ("ext4", False), ("", False)]
)
def test_network_file_systems(kind: str, expected: bool) -> None:
    assert is_network_type(kind) == expected


def test_blocked_and_failing_checks_are_findings() -> None:
    async def block(_: DoctorContext) -> list[DoctorFinding]:
        await call_in_thread(lambda: time.sleep(5))
        return []

    async def ignore_cancellation(_: DoctorContext) -> list[DoctorFinding]:
        try:
            await asyncio.sleep(5)
        finally:
            await asyncio.sleep(0.3)
        return []

    async def crash(_: DoctorContext) -> list[DoctorFinding]:
        raise ValueError("canary")

    started_at = time.monotonic()
    checks = {"disk": block, "stubborn": ignore_cancellation, "bug": crash}
    findings = asyncio.run(run_checks(make_context(), checks))
    assert time.monotonic() - started_at < 3
    statuses = {finding.check: finding.status for finding in findings}
    assert statuses == {"disk": "failed", "stubborn": "failed", "bug": "failed", "clock": "skipped"}
    assert "canary" not in repr(findings)


@pytest.mark.thorough
@pytest.mark.parametrize(("status", "exit_code"), [("OK", 0), ("WARNING", 0), ("FAILED", 1)])
def test_shutdown_of_python_cannot_change_the_exit_code(status: str, exit_code: int) -> None:
    """Threads of a library may abort the process then."""
    code = f"""
import atexit, os
from gateway.commands.doctor.doctor_command import DoctorFinding, Status, exit_with_status, show_findings
atexit.register(os.abort)
findings = [DoctorFinding("storage", Status.{status}, "a message", "a remedy")]
show_findings(findings, wants_json=True)
exit_with_status(findings)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (exit_code, "")
    assert "a message" in result.stdout


def test_storage_is_closed_also_if_its_test_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class BrokenStorage:
        def __init__(self, location: str) -> None:
            self.location = location

        async def self_test(self) -> None:
            raise StorageUnavailable("the bucket does not respond")

        async def close(self) -> None:
            closed.append(self.location)

    monkeypatch.setattr(storage_checks, "ImageStorage", BrokenStorage)
    (finding,) = asyncio.run(storage_checks.check_storage(make_context(IGW_ASSETS="s3://images")))
    assert (finding.status, finding.message) == ("failed", "the bucket does not respond.")
    assert closed == ["s3://images"]


def test_error_of_a_blocking_call_is_raised() -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(call_in_thread(lambda: os.stat("/missing")))


def test_secrets_are_hidden_in_messages_and_remedies() -> None:
    findings = [DoctorFinding("x", Status.FAILED, "key=abcdef, abcde and abc", "use abcdef")]
    (hidden,) = redact_findings(findings, ["abcde", "", "abc", "abcdef"])
    assert (hidden.message, hidden.remedy) == ("key=(hidden), (hidden) and abc", "use (hidden)")


def test_passwords_of_urls_are_known_secrets() -> None:
    context = make_context(
        REDIS_URL="rediss://user:pass-word@host:6379/0", IGW_SECRET="signing-secret-1234", IGW_ASSETS="s3://images"
    )
    assert {"user:pass-word", "pass-word", "signing-secret-1234"} <= set(context.iterate_secrets())


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"IGW_HOST": "0.0.0.0", "IGW_PORT": "80"}, "http://127.0.0.1:80"),  # noqa: S104
        ({"IGW_HOST": "::"}, "http://[::1]:8080"),
        ({"IGW_HOST": "fd00::1"}, "http://[fd00::1]:8080"),
        ({"IGW_HOST": "igw.internal"}, "http://igw.internal:8080"),
    ],
)
def test_url_of_the_gateway_on_this_machine(environ: dict[str, str], url: str) -> None:
    assert get_local_url(load_settings(environ)) == url
