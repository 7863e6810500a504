"""Tokens counted by sellers are stored per attempt and summed over the delivering attempts."""

from gateway.jobs.commit import decode_job
from gateway.jobs.job_update_types import ImagesReady, ImagesStored
from providers.faults import FaultKind
from providers.order_status import TokenUsage
from tests.unit.jobs.job_scenario import JobScenario, make_new_job, make_route_entry

FIRST_USAGE = TokenUsage(input_text=10, input_image=256, output=7_000)
SECOND_USAGE = TokenUsage(input_text=11, input_image=0, output=500)
NO_USAGE = TokenUsage(input_text=0, input_image=0, output=0)


def make_two_orders() -> JobScenario:
    """Makes a job of two images at a seller that makes one per order."""
    scenario = JobScenario(
        make_new_job(n=2, route=(make_route_entry("openai", max_images=1), make_route_entry("runapi", max_images=1)))
    )
    scenario.start_attempt(images=(0,))
    scenario.start_attempt(images=(1,))
    return scenario


def test_usage_of_job_is_sum_of_its_orders() -> None:
    scenario = make_two_orders()
    scenario.apply(ImagesStored(attempt=1, images=(0,), usage=FIRST_USAGE), 3.0)
    scenario.apply(ImagesStored(attempt=2, images=(1,), usage=SECOND_USAGE), 3.0)
    assert scenario.job.usage == TokenUsage(input_text=21, input_image=256, output=7_500)
    assert decode_job(scenario.commits[-1].encoded_job).usage == scenario.job.usage


def test_usage_reported_with_ready_images_survives_restart() -> None:
    """The next worker has the URLs, but not the response with the token counts."""
    scenario = make_two_orders()
    scenario.apply(ImagesReady(attempt=1, image_urls=("https://a.example/1",), usage=FIRST_USAGE), 3.0)
    scenario.apply(ImagesStored(attempt=1, images=(0,)), 4.0)
    assert scenario.job.usage == FIRST_USAGE


def test_usage_of_order_without_images_is_not_counted() -> None:
    scenario = make_two_orders()
    scenario.apply(ImagesReady(attempt=1, usage=FIRST_USAGE), 3.0)
    scenario.apply(ImagesStored(attempt=1, images=(), missing_fault=FaultKind.IMAGES_EXPIRED), 4.0)
    assert scenario.job.usage == NO_USAGE


def test_seller_without_usage_adds_nothing() -> None:
    scenario = make_two_orders()
    scenario.apply(ImagesStored(attempt=1, images=(0,)), 3.0)
    scenario.apply(ImagesStored(attempt=2, images=(1,), usage=SECOND_USAGE), 3.0)
    assert scenario.job.usage == SECOND_USAGE


def test_usage_reported_twice_is_counted_once() -> None:
    scenario = make_two_orders()
    scenario.apply(ImagesReady(attempt=1, usage=FIRST_USAGE), 3.0)
    scenario.apply(ImagesStored(attempt=1, images=(0,), usage=SECOND_USAGE), 4.0)
    assert scenario.job.usage == FIRST_USAGE


def test_job_without_tokens_encodes_no_token_field() -> None:
    assert b"token_counts" not in make_two_orders().commits[-1].encoded_job
