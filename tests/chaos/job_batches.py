"""Creates and reads many jobs through a gateway's API."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.chaos.persistent_clients import post_job
from tests.harness.gateway_process import GatewayProcess
from tests.harness.sample_images import encode_data_uri, make_image

INPUT_DATA_URI = encode_data_uri(make_image(512, 512))


def post_jobs(gateway: GatewayProcess, seller: str, count: int, key: str = "key") -> list[str]:
    """Creates `count` jobs and returns their ids."""
    with gateway.make_client() as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda index: post_job(client, f"{key}-{seller}-{index}", seller), range(count)))
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    return [answer.json()["id"] for answer in answers]


def wait_for_jobs(gateway: GatewayProcess, job_ids: list[str], timeout_seconds: float = 60.0) -> list[dict[str, Any]]:
    with gateway.make_client(timeout_seconds + 10) as client, ThreadPoolExecutor(len(job_ids)) as pool:
        answers = pool.map(lambda job: client.get(f"/v1/jobs/{job}", params={"wait": int(timeout_seconds)}), job_ids)
        return [answer.json() for answer in answers]
