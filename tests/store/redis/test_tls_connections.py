"""TLS to servers and Sentinels. An error of TLS says what to change."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.base import Applied, StoreMisconfigured, StoreUnavailable
from tests.store import job_factory
from tests.store.job_factory import NOON
from tests.store.redis.redis_stores import open_store, run_async
from tests.store.redis.sentinel_servers import run_sentinel_deployment
from tests.store.redis_servers import RedisServer
from tests.store.tls_files import TlsFiles, create_tls_files


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return create_tls_files(tmp_path_factory.mktemp("tls") / "right")


@pytest.fixture(scope="module")
def tls_server(tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("server"), tls=tls)
    try:
        server.start()
        yield server
    finally:
        server.kill()


async def open_and_commit(url: str) -> None:
    async with open_store(url) as store:
        commit = job_factory.make_create_commit(NOON)
        assert await store.commit(commit) == Applied()
        with store.watch(commit.job.id) as watch:
            update = job_factory.make_update_commit(commit.job, job_factory.make_attempt_started(commit.job), NOON)
            assert await store.commit(update) == Applied()
            assert await watch.wait_for_change(30.0), "the connection that listens uses TLS, too"


def test_store_works_over_tls(tls_server: RedisServer) -> None:
    assert tls_server.url.startswith("rediss://")
    run_async(open_and_commit(tls_server.create_user()))


def test_untrusted_certificate_is_named_with_the_option(tls_server: RedisServer, tls: TlsFiles, tmp_path: Path) -> None:
    other = create_tls_files(tmp_path / "other")
    for url in (
        tls_server.url.replace(tls.url_option, other.url_option),
        tls_server.url.partition("?")[0],
    ):
        with pytest.raises(StoreUnavailable, match=r"^The certificate of Redis is not accepted: .*ssl_ca_certs="):
            run_async(open_and_commit(url))


def test_certificate_of_another_host_is_named_with_the_option(tls_server: RedisServer) -> None:
    url = tls_server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(StoreUnavailable, match=r"is not accepted: .*localhost.*ssl_check_hostname=false"):
        run_async(open_and_commit(url))
    run_async(open_and_commit(f"{url}&ssl_check_hostname=false"))


def test_scheme_that_the_port_does_not_have_is_named(
    single_server: RedisServer, tls_server: RedisServer, tls: TlsFiles
) -> None:
    url = f"{single_server.url.replace('redis://', 'rediss://')}?{tls.url_option}"
    with pytest.raises(StoreUnavailable, match=r"If its port has no TLS, write redis://"):
        run_async(open_and_commit(url))
    with pytest.raises(StoreUnavailable, match=r"If its port requires TLS, write rediss://"):
        run_async(open_and_commit(f"redis://127.0.0.1:{tls_server.port}/0"))


def test_required_client_certificate_is_named(tls: TlsFiles, tls_server: RedisServer) -> None:
    tls_server.execute("CONFIG", "SET", "tls-auth-clients", "yes")
    try:
        with pytest.raises(StoreUnavailable, match=r"certificate of its clients, add ssl_certfile"):
            run_async(open_and_commit(tls_server.url))
        own = f"ssl_certfile={tls.certificate}&ssl_keyfile={tls.key}"
        run_async(open_and_commit(f"{tls_server.url}&{own}"))
    finally:
        tls_server.execute("CONFIG", "SET", "tls-auth-clients", "no")


def test_missing_certificate_file_is_named(tls_server: RedisServer, tls: TlsFiles) -> None:
    with pytest.raises(StoreMisconfigured, match=r"/missing\.pem as ssl_ca_certs"):
        run_async(open_and_commit(tls_server.url.replace(str(tls.certificate), "/missing.pem")))


@pytest.mark.thorough
def test_sentinels_and_their_servers_use_tls(tls: TlsFiles, tmp_path: Path) -> None:
    """As the documented user, before and after a failover."""
    other = create_tls_files(tmp_path / "other")
    with run_sentinel_deployment(tmp_path / "servers", tls=tls) as deployment:
        url = deployment.create_user()
        assert url.startswith("rediss+sentinel://gateway:")
        run_async(open_and_commit(url))
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:\d+: The certificate of Redis is not accepted: "):
            run_async(open_and_commit(url.replace(tls.url_option, other.url_option)))
        old_primary = deployment.primary
        old_primary.kill()
        deployment.wait_for_failover(old_primary)
        run_async(open_and_commit(url))
