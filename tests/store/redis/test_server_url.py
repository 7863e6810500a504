"""REDIS_URL with Sentinels and Clusters."""

import pytest

from gateway.store.base import StoreMisconfigured
from gateway.store.redis.server_url import ServerUrl, parse_server_url


def test_sentinel_url_has_separate_credentials() -> None:
    url = "rediss+sentinel://app:a%40b@one:1,two,[::1]:3/my%20jobs/2?sentinel_password=s%26t&ssl_ca_certs=/ca.pem"
    assert parse_server_url(url) == ServerUrl(
        connection_url="rediss://app:a%40b@one:1/2?ssl_ca_certs=%2Fca.pem",
        kind="sentinel",
        hosts=(("one", 1), ("two", 26379), ("::1", 3)),
        service="my jobs",
        sentinel_password="s&t",
    )


def test_cluster_url_names_several_servers() -> None:
    url = parse_server_url("rediss+cluster://app:secret@one,two:7?ssl_ca_certs=/ca.pem")
    assert (url.kind, url.hosts) == ("cluster", (("one", 6379), ("two", 7)))
    assert url.connection_url == "rediss://app:secret@one:6379?ssl_ca_certs=/ca.pem"
    assert url.select_server("::1", 5).connection_url == "rediss://app:secret@[::1]:5?ssl_ca_certs=/ca.pem"


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://one", "redis+sentinel:///jobs", "redis+sentinel://one/jobs/x", "redis+cluster://one:x,two"],
)
def test_incomplete_url_is_rejected_with_an_example(url: str) -> None:
    with pytest.raises(StoreMisconfigured, match=r"REDIS_URL .* like redis\+"):
        parse_server_url(url)
