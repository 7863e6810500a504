"""`doctor` at the store and the image storage: reachable, writable, durable."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.store.redis.access_problems import ACL_RULES
from tests.doctor.doctor_runner import DoctorReport, Installation
from tests.harness.gateway_environ import make_redis_environ
from tests.harness.gateway_runner import ROOT
from tests.harness.ports import reserve_port
from tests.harness.tmpfs import mount_tmpfs
from tests.store import redis_servers

CANARY_PASSWORD = "canary-redis-password"
S3_ENVIRON = {
    "AWS_ACCESS_KEY_ID": "canary-access",
    "AWS_SECRET_ACCESS_KEY": "canary-aws-secret",
    "AWS_REGION": "eu-central-1",
    "AWS_ALLOW_HTTP": "true",
}


def run_with_redis(installation: Installation, url: str) -> DoctorReport:
    images = installation.data.with_name("images")
    images.mkdir(mode=0o700, exist_ok=True)
    return installation.run(**make_redis_environ(url, images) | {"IGW_SECRET": "canary-signing-secret"})


def test_redis_with_the_right_settings(installation: Installation, tmp_path: Path) -> None:
    with redis_servers.run_single_server(tmp_path / "redis") as server:
        report = run_with_redis(installation, server.url)
        assert server.execute("DBSIZE") == 0, "the test key was deleted"
    assert report.list_troubles() == []
    assert report.get("store").message.endswith(", 1 server")
    assert "Redis" in report.get("clock").message


def test_redis_that_may_lose_jobs_fails_with_every_reason(installation: Installation, tmp_path: Path) -> None:
    options = ("--appendonly", "no", "--maxmemory-policy", "allkeys-lru", "--appendfsync", "everysec")
    with redis_servers.run_single_server(tmp_path / "redis", *options) as server:
        findings = run_with_redis(installation, server.url).list_all("store")
    assert [finding.status for finding in findings] == ["failed", "failed", "warning"]
    assert "CONFIG SET maxmemory-policy noeviction" in findings[0].remedy
    assert "CONFIG SET appendonly yes" in findings[1].remedy
    assert "appendfsync everysec" in findings[2].message


def test_redis_that_is_nearly_full_is_a_warning(installation: Installation, tmp_path: Path) -> None:
    with redis_servers.run_single_server(tmp_path / "redis") as server:
        used = int(server.execute("INFO", "memory")["used_memory"])
        server.execute("CONFIG", "SET", "maxmemory", int(used * 1.24))
        findings = run_with_redis(installation, server.url).list_all("store")
    assert any("of maxmemory" in finding.message and finding.status == "warning" for finding in findings)


def test_redis_that_is_down_fails(installation: Installation) -> None:
    report = run_with_redis(installation, f"redis://:{CANARY_PASSWORD}@127.0.0.1:{reserve_port()}")
    finding = report.get("store")
    assert (finding.status, finding.remedy.startswith("Start Redis")) == ("failed", True)
    assert CANARY_PASSWORD not in repr(report.findings)


@pytest.mark.parametrize(
    ("credentials", "message", "remedy"),
    [
        ("", "Redis requires a password, and REDIS_URL has none.", "Set REDIS_URL to "),
        (f":{CANARY_PASSWORD}@", "Redis refuses the user or the password in REDIS_URL", "Correct REDIS_URL "),
        (f"gateway:{CANARY_PASSWORD}@", "Redis refuses the user or the password in REDIS_URL", "Correct REDIS_URL "),
        (f"unknown:{CANARY_PASSWORD}@", "Redis refuses the user or the password in REDIS_URL", "Correct REDIS_URL "),
    ],
    ids=["no password", "wrong password", "wrong password of a user", "unknown user"],
)
def test_wrong_credentials_of_redis_are_named(
    installation: Installation, tmp_path: Path, credentials: str, message: str, remedy: str
) -> None:
    with redis_servers.run_single_server(tmp_path / "redis") as server:
        server.create_user()
        server.execute("CONFIG", "SET", "requirepass", "right")
        report = run_with_redis(installation, f"redis://{credentials}127.0.0.1:{server.port}")
    finding = report.get("store")
    assert finding.status == "failed"
    assert finding.message.startswith(message)
    assert finding.remedy.startswith(remedy)
    assert CANARY_PASSWORD not in repr(report.findings)


def test_user_of_redis_with_the_documented_rights_is_enough(installation: Installation, tmp_path: Path) -> None:
    with redis_servers.run_single_server(tmp_path / "redis") as server:
        assert run_with_redis(installation, server.create_user()).list_troubles() == []


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (f"{ACL_RULES} -info", "has no permissions to run the 'info' command"),
        (ACL_RULES.replace("~igw:*", "~other:*"), "permissions to access"),
        (ACL_RULES.replace("+@scripting", ""), "has no permissions to run the 'eval"),
        (ACL_RULES.replace("&igw:*", ""), "it may not execute PUBLISH, SUBSCRIBE."),
        (f"{ACL_RULES} -zadd -hset", "it may not execute HSET, ZADD."),
        (f"{ACL_RULES} -bgrewriteaof", "it may not execute BGREWRITEAOF."),
    ],
    ids=["info", "keys", "scripts", "channels", "commands", "rewrite"],
)
def test_missing_rights_in_redis_are_named(
    installation: Installation, tmp_path: Path, rules: str, message: str
) -> None:
    with redis_servers.run_single_server(tmp_path / "redis") as server:
        finding = run_with_redis(installation, server.create_user(rules=rules)).get("store")
        assert server.execute("DBSIZE") == 0
    assert finding.status == "failed"
    assert finding.message.startswith("The user in REDIS_URL lacks permissions in Redis: ")
    assert message in finding.message
    assert finding.remedy == f"Run ACL SETUSER <user> {ACL_RULES}"


def test_missing_list_of_connections_is_a_warning(installation: Installation, tmp_path: Path) -> None:
    with redis_servers.run_single_server(tmp_path / "redis") as server:
        report = run_with_redis(installation, server.create_user(rules=f"{ACL_RULES} -client|list"))
    ok, warning = report.list_all("store")
    assert (ok.status, warning.status) == ("ok", "warning")
    assert "may not execute CLIENT LIST" in warning.message
    assert "+client|list" in warning.remedy


def test_read_only_redis_replica_fails(installation: Installation, tmp_path: Path) -> None:
    with (
        redis_servers.run_single_server(tmp_path / "primary") as primary,
        redis_servers.run_single_server(tmp_path / "replica", "--replicaof", f"127.0.0.1 {primary.port}") as replica,
    ):
        findings = run_with_redis(installation, replica.url).list_all("store")
    assert [finding.status for finding in findings] == ["failed"]
    assert findings[0].message == "Redis is a read-only replica."
    assert "REDIS_URL lead to the primary" in findings[0].remedy


def make_file(path: Path) -> None:
    path.write_text("")


@pytest.mark.parametrize("check", ["store", "storage"])
def test_file_in_place_of_the_folder_fails(installation: Installation, check: str) -> None:
    make_file(installation.data)
    finding = installation.run().get(check)
    assert finding.status == "failed"
    assert "is not a folder that this user may write to" in finding.message


@pytest.mark.parametrize("is_relative", [True, False], ids=["relative", "absolute"])
def test_damaged_database_fails(installation: Installation, is_relative: bool) -> None:
    installation.data.mkdir()
    (installation.data / "gateway.db").write_bytes(b"not a database" * 1_000)
    folder = os.path.relpath(installation.data, ROOT) if is_relative else str(installation.data)
    finding = installation.run("--data", folder).get("store")
    assert (finding.status, "is not an SQLite database" in finding.message) == ("failed", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["images", "gateway.db"])
def test_files_of_another_user_are_left_alone(installation: Installation, name: str) -> None:
    make: Callable[[Path], None] = make_file if name == "gateway.db" else Path.mkdir
    path = installation.data / name
    installation.data.mkdir()
    make(path)
    os.chown(path, 65_534, 65_534)
    report = installation.run()
    findings = report.list_all("storage" if name == "images" else "store")
    assert "belongs to another user" in findings[-1].message
    assert findings[-1].status == "warning"
    assert sorted(installation.data.rglob("*")) == [path]


def test_folders_in_memory_are_warnings(installation: Installation) -> None:
    with mount_tmpfs(installation.data, 32):
        (installation.data / "images").mkdir(mode=0o700)
        report = installation.run()
    for check in ("store", "storage"):
        assert [finding.status for finding in report.list_all(check)] == ["ok", "warning"]
        assert "is in memory (tmpfs)" in report.list_all(check)[1].message


def test_truncated_database_fails(installation: Installation) -> None:
    installation.data.mkdir()
    make_file(installation.data / "gateway.db")
    finding = installation.run().get("store")
    assert finding.status == "failed"
    assert "it was truncated" in finding.message
    assert "Restore a backup" in finding.remedy


@pytest.mark.parametrize(
    ("megabytes", "options", "message"),
    [
        (1, (), "is full"),
        (32, ("nr_inodes=1",), "is full: 0 KiB can be written"),
        (32, ("ro",), "is not a folder that this user may write to"),
    ],
    ids=["full", "no more files", "read-only"],
)
def test_disk_is_checked_before_the_folders_exist(
    installation: Installation, megabytes: int, options: tuple[str, ...], message: str
) -> None:
    with mount_tmpfs(installation.data, megabytes, *options) as disk:
        report = installation.run("--data", str(disk / "new" / "data"))
    for check, setting in (("store", "IGW_DATA"), ("storage", "IGW_ASSETS")):
        finding = next(finding for finding in report.list_all(check) if finding.status == "failed")
        assert message in finding.message
        assert f"set {setting} to" in finding.remedy
        assert "ok" not in {finding.status for finding in report.list_all(check)}


def test_full_disk_of_an_existing_folder_fails(installation: Installation) -> None:
    with mount_tmpfs(installation.data, 1):
        findings = installation.run().list_all("store")
    assert "is full" in next(finding.message for finding in findings if finding.status == "failed")


def test_full_disk_fails(installation: Installation) -> None:
    with mount_tmpfs(installation.data, 1):
        (installation.data / "images").mkdir(mode=0o700)
        finding = installation.run().get("storage")
    assert finding.status == "failed"
    assert "no space left" in finding.message
    assert "Free some space" in finding.remedy


def test_unreachable_bucket_fails_without_showing_credentials(installation: Installation) -> None:
    endpoint = f"http://127.0.0.1:{reserve_port()}"
    report = installation.run(IGW_ASSETS=f"s3://images?endpoint={endpoint}", **S3_ENVIRON)
    finding = report.get("storage")
    assert finding.status == "failed"
    assert "credentials" in finding.remedy
    assert not [found for found in report.findings if "canary" in repr(found)]


def test_images_in_memory_are_a_warning(installation: Installation) -> None:
    finding = installation.run(IGW_ASSETS="memory://").get("storage")
    assert (finding.status, finding.remedy) == ("warning", "Set IGW_ASSETS to a folder or a bucket.")
