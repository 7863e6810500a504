"""The tokens that sellers counted: kept with the attempts, summed over those that delivered."""

from gateway.jobs.commit import decode_job
from gateway.jobs.facts import PicturesDelivered, PicturesReady
from providers.faults import FaultKind
from providers.progress import TokenUsage
from tests.unit.jobs.living import Life, acceptance, place

FIRST = TokenUsage(input_text=10, input_image=256, output=7_000)
SECOND = TokenUsage(input_text=11, input_image=0, output=500)
NONE = TokenUsage(input_text=0, input_image=0, output=0)


def two_orders() -> Life:
    """A job of two images, which its seller makes one at a time."""
    life = Life(acceptance(n=2, route=(place("openai", images=1), place("runapi", images=1))))
    life.opens(images=(0,))
    life.opens(images=(1,))
    return life


def test_usage_of_a_job_is_that_of_all_its_orders() -> None:
    life = two_orders()
    life.after(PicturesDelivered(attempt=1, images=(0,), usage=FIRST), 3.0)
    life.after(PicturesDelivered(attempt=2, images=(1,), usage=SECOND), 3.0)
    assert life.job.usage == TokenUsage(input_text=21, input_image=256, output=7_500)
    assert decode_job(life.commits[-1].blob).usage == life.job.usage


def test_usage_reported_with_the_pictures_survives_a_restart_before_they_are_stored() -> None:
    """The next owner has the links, and not the answer with the tokens."""
    life = two_orders()
    life.after(PicturesReady(attempt=1, links=("https://a.example/1",), usage=FIRST), 3.0)
    life.after(PicturesDelivered(attempt=1, images=(0,)), 4.0)
    assert life.job.usage == FIRST


def test_usage_of_an_order_that_delivered_nothing_is_not_the_teams() -> None:
    life = two_orders()
    life.after(PicturesReady(attempt=1, usage=FIRST), 3.0)
    life.after(PicturesDelivered(attempt=1, images=(), missing=FaultKind.EXPIRED), 4.0)
    assert life.job.usage == NONE


def test_usage_of_a_seller_that_tells_none_adds_nothing() -> None:
    life = two_orders()
    life.after(PicturesDelivered(attempt=1, images=(0,)), 3.0)
    life.after(PicturesDelivered(attempt=2, images=(1,), usage=SECOND), 3.0)
    assert life.job.usage == SECOND


def test_usage_is_counted_once_however_often_it_is_reported() -> None:
    life = two_orders()
    life.after(PicturesReady(attempt=1, usage=FIRST), 3.0)
    life.after(PicturesDelivered(attempt=1, images=(0,), usage=SECOND), 4.0)
    assert life.job.usage == FIRST


def test_a_job_without_tokens_takes_no_room_for_them() -> None:
    assert b"tokens" not in two_orders().commits[-1].blob
