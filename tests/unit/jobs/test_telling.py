"""What is told of a job: milestones, one webhook, the name of each change, and a blob small enough to be cheap."""

import msgspec
import pytest

from gateway.jobs.accepting import accept
from gateway.jobs.commit import Commit, Milestone, apply, decode_job
from gateway.jobs.facts import AttemptGivenUp, CancelAsked, JobExpired, PicturesDelivered, PicturesReady, TicketLearned
from gateway.jobs.job import Job, reference_of
from providers.faults import FaultKind
from tests.unit.jobs.living import FENCE, SECONDS, START, Life, acceptance, place


def test_milestones_tell_the_whole_story_in_order() -> None:
    life = Life(acceptance(n=2))
    life.opens(images=(1,))
    life.opens(images=(0,))
    life.after(PicturesDelivered(attempt=1, images=(1,)), 5.0)
    life.after(PicturesDelivered(attempt=2, images=(0,)), 6.0)
    assert [milestone for commit in life.commits for milestone in commit.milestones] == [
        Milestone(number=1, at=START, name="queued"),
        Milestone(number=2, at=START, name="in_progress"),
        Milestone(number=3, at=START + 5, name="image", image=1),
        Milestone(number=4, at=START + 6, name="image", image=0),
        Milestone(number=5, at=START + 6, name="completed"),
    ]


def test_several_pictures_of_one_order_are_told_one_by_one() -> None:
    life = Life(acceptance(n=3, tries=1))
    life.opens(images=(0, 1, 2))
    life.delivers((2, 0))
    assert life.books.milestones[2:] == [("image", 0), ("image", 2), ("completed", None)]


def test_a_job_that_ends_at_once_is_told_of_all_the_same() -> None:
    life = Life()
    life.after(CancelAsked())
    assert life.books.milestones == [("queued", None), ("cancelled", None)]


def test_one_webhook_tells_the_end_and_none_what_comes_after() -> None:
    life = Life()
    life.tickets()
    life.after(JobExpired(fence=FENCE), SECONDS)
    life.after(PicturesReady(attempt=1), SECONDS + 1)
    sent = [delivery for commit in life.commits for delivery in commit.webhooks]
    assert [(one.id, one.job, one.name, one.at) for one in sent] == [
        ("job-1-expired", "job-1", "job.expired", START + SECONDS)
    ]


def test_who_asked_for_no_webhook_gets_none() -> None:
    life = Life(acceptance(webhook=False))
    life.after(CancelAsked())
    assert life.books.webhooks == []


def test_each_change_has_a_name_of_its_own_and_the_same_change_the_same() -> None:
    job = accept(acceptance(), START).job
    first, again, later, other = (
        apply(job, JobExpired(fence=fence), START + seconds)
        for fence, seconds in ((1, 900), (1, 900), (1, 901), (2, 900))
    )
    names = [commit.op for commit in (first, again, later, other) if isinstance(commit, Commit)]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_decisions_carry_their_fence_and_facts_none() -> None:
    life = Life()
    life.opens()
    assert [commit.fence for commit in life.commits] == [None, FENCE]
    assert life.fails(FaultKind.FAILED).fence is None


# --- the blob


def bought_one_by_one() -> Life:
    """Ten images from three sellers in turn, with names, tickets and times as long as they are in life."""
    route = tuple(place(seller, images=1) for seller in ("runapi-pro", "runflow-runs", "runflow-run"))
    asked = acceptance(n=10, id="37-01kab3cd4efgh5jkmnpqrstvwx", config="0123456789ab", route=route)
    life = Life(asked, START + 0.1234567)
    for image in range(10):
        number = life.opens(image % 3, (image,), image + 0.1234567)
        ticket = f"0123abcd-0123-4bcd-8123-{image:012}"
        life.after(TicketLearned(attempt=number, ticket=ticket), image + 1.7654321)
    for number in range(1, 11):
        life.after(PicturesReady(attempt=number, cost=130_000), 40.7654321 + number)
    for number in range(1, 11):
        life.after(PicturesDelivered(attempt=number, images=(number - 1,)), 60.7654321 + number)
    return life


def test_ten_images_bought_one_by_one_from_three_sellers_stay_under_two_kilobytes() -> None:
    life = bought_one_by_one()
    assert life.job.is_settled
    assert max(len(commit.blob) for commit in life.commits) < 2_048


def test_a_blob_is_the_whole_job() -> None:
    for commit in bought_one_by_one().commits:
        assert decode_job(commit.blob) == commit.job


def test_parts_that_ended_alike_are_remembered_as_one() -> None:
    assert len(bought_one_by_one().job.parts) == 1


def test_fields_of_a_newer_version_do_not_keep_an_older_one_from_reading() -> None:
    life = Life(acceptance(n=2))
    life.tickets(images=(0,))
    raw = msgspec.json.decode(life.commits[-1].blob)
    raw["of_tomorrow"] = {"x": 1}
    for listed in (*raw["parts"], *raw["attempts"], *raw["route"]):
        listed.append("of tomorrow")
    assert decode_job(msgspec.json.encode(raw)) == life.job


@pytest.mark.parametrize(("kept", "of"), [(1, "parts"), (4, "attempts")])
def test_fields_of_today_may_be_missing_from_an_older_blob(kept: int, of: str) -> None:
    life = Life(acceptance(n=2))
    life.opens(images=(0,))
    raw = msgspec.json.decode(life.commits[-1].blob)
    raw[of] = [listed[:kept] for listed in raw[of]]
    older = decode_job(msgspec.json.encode(raw))
    assert isinstance(older, Job)
    assert [part.images for part in older.parts] == [(0,), (1,)]
    assert (older.attempts[0].images, older.attempts[0].ticket) == ((0,), None)


def test_an_orders_reference_leads_back_to_its_job() -> None:
    assert reference_of("37-01k", 12) == "37-01k-12"


def test_given_up_orders_say_why() -> None:
    life = Life()
    number = life.tickets()
    life.after(AttemptGivenUp(fence=FENCE, attempt=number, kind=FaultKind.OVERDUE), 420.0)
    assert (life.attempt.fault, life.job.fault) == (FaultKind.OVERDUE, FaultKind.OVERDUE)
