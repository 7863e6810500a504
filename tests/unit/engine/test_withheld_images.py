"""Images that the operator's moderation withholds: paid, not stored, and a delivery of their seller."""

from gateway.engine.moderation_events import ModerationAnswered
from gateway.upstream.download import DownloadError
from providers.faults import FaultKind
from tests.unit.engine.fetcher_fakes import (
    ALLOWED,
    ANSWER_SECONDS,
    LOST_ANSWER,
    MAX_FETCH_TRIES,
    REFUSED,
    fail_url,
    make_fakes,
    make_image_url,
    make_inline_image,
)


def test_withheld_image_is_paid_and_not_stored() -> None:
    fakes = make_fakes(n=2)
    fakes.hook_answers = [REFUSED, ALLOWED]
    assert fakes.fetch_and_store(make_inline_image(), make_inline_image())
    update = fakes.stored_update
    assert (update.images, update.made_count, update.cost) == ((1,), 2, 7)
    assert update.missing_fault is FaultKind.IMAGE_WITHHELD
    note = "image_withheld: image 0: refused by the moderation hook 'after': not this"
    assert (update.warnings[0], update.seller_response and update.seller_response.notes) == (note, (note,))
    assert (len(fakes.stored_keys), list(fakes.documents)) == (1, ["image.1.1"])
    attempt = fakes.job_context.get_attempt(1)
    assert (attempt.captured_amount, attempt.orphaned_amount, attempt.delivered_count) == (3, 4, 1)


def test_seller_of_a_withheld_image_has_delivered_it_in_its_own_time() -> None:
    fakes = make_fakes(n=1)
    fakes.hook_answers = [REFUSED]
    assert fakes.fetch_and_store(make_inline_image())
    [outcome] = fakes.outcomes
    assert (outcome.fault, outcome.is_as_ordered) == (None, True)
    assert (outcome.elapsed_seconds, outcome.moderation_seconds) == (1.0 + ANSWER_SECONDS, ANSWER_SECONDS)
    assert [type(event) for event in fakes.events] == [ModerationAnswered]
    assert fakes.job_context.job.state.is_terminal


def test_hook_that_answers_late_is_asked_again_without_a_download() -> None:
    """Before each further question the job records that its images exist, so that its deadline does not end it."""
    fakes = make_fakes(n=1)
    fakes.hook_answers = [*[LOST_ANSWER] * (MAX_FETCH_TRIES - 1), ALLOWED]
    assert fakes.fetch_and_store(make_image_url(0))
    assert (fakes.stored_update.images, len(fakes.downloaded_urls)) == ((0,), 1)
    assert len(fakes.list_ready_updates()) == 1
    assert fakes.job_context.get_attempt(1).fault is None


def test_image_is_withheld_if_the_hook_never_answers() -> None:
    fakes = make_fakes(n=2)
    fakes.hook_answers = [*[LOST_ANSWER] * (2 * MAX_FETCH_TRIES - 1), LOST_ANSWER]
    assert fakes.fetch_and_store(make_inline_image(), make_inline_image())
    assert (fakes.stored_update.images, fakes.stored_update.missing_fault) == ((), FaultKind.IMAGE_UNMODERATED)
    assert fakes.stored_keys == []
    assert len([event for event in fakes.events if isinstance(event, ModerationAnswered)]) == 2 * MAX_FETCH_TRIES
    assert [outcome.fault for outcome in fakes.outcomes] == [None]


def test_refusal_outranks_missing_answer_and_missing_image() -> None:
    fakes = make_fakes(n=2)
    fakes.hook_answers = [REFUSED]
    fakes.answer_download = fail_url(make_image_url(1), *(DownloadError("gone", is_permanent=True) for _ in range(99)))
    assert fakes.fetch_and_store(make_image_url(0), make_image_url(1))
    assert (fakes.stored_update.images, fakes.stored_update.missing_fault) == ((), FaultKind.IMAGE_WITHHELD)
    assert fakes.outcomes == [], "an image that could not be fetched was not delivered"
