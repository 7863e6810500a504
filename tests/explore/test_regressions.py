"""Bugs that the explorer has found, each as the smallest scenario that shows it."""

import pytest
from msgspec.structs import replace

from gateway.engine import job_creation
from gateway.engine.job_documents import OrderDocuments, encode_order_documents
from gateway.jobs.document_names import REQUEST
from tests.explore.disturbances import SEND_ORDER, Disturbance, DisturbanceKind, DisturbancePlan
from tests.explore.explorer import explore
from tests.explore.scenario import ClientPlan, Scenario
from tests.explore.seller_scripts import SellerMood
from tests.explore.sellers_config import LEASE_SECONDS, find_policy

CALM = Scenario(
    clients=(
        ClientPlan(
            starts_at=0.0,
            image_count=1,
            policy="policy-0",
            has_key=True,
            has_webhook=False,
            max_tries=5,
            cancels_after=None,
            disconnects_after=None,
        ),
    ),
    replica_count=1,
    kill_times=(),
    restart_seconds=1.0,
    has_callbacks=True,
    is_calm=True,
)
WORKER_COMMIT = "job_worker.JobWorker._commit_messages -> store.commit"
FIRST_COMMIT = "job_creation._save_job -> store.commit"
DELETE_CONTENT = "engine.Engine.save_fact -> store.load_job"
LOAD_REQUEST = "job_context.JobContext.load_order_documents -> store.load_documents"
SEND_QUERY = "seller_queries.query_seller -> seller_client.send"
NO_DISTURBANCE = DisturbancePlan(by_effect_number={}, by_periodic_number={})
NO_DELAY = Disturbance(DisturbanceKind.DELAY_BEFORE)


def run_calmly(first_seller: str, image_count: int, plan: DisturbancePlan = NO_DISTURBANCE) -> str:
    """Runs one job of a calm seller. Returns the story."""
    client = replace(CALM.clients[0], image_count=image_count, policy=find_policy(first_seller))
    result = explore(1, replace(CALM, clients=(client,)), plan)
    assert not result.violations, result.story
    return result.story


def test_calm_seller_delivers_all_images() -> None:
    assert "is completed: 3 of 3 images" in run_calmly("runs", 3)


def test_submission_that_backs_off_does_not_keep_its_worker_busy() -> None:
    """A replica reclaims a job for two orders of one image each. Both fail to load the request, and back off for a
    second. Before, the images were joined and split again in every turn of the event loop meanwhile."""
    failure = Disturbance(DisturbanceKind.FAIL_BEFORE)
    disturbances = {FIRST_COMMIT: (Disturbance(DisturbanceKind.KILL_AFTER),), LOAD_REQUEST: (failure, failure)}
    story = run_calmly("tasks", 2, replace(NO_DISTURBANCE, by_failpoint=disturbances))
    assert story.count(f"{LOAD_REQUEST}: fails before the effect") == 2
    assert "is completed: 2 of 2 images" in story


def test_job_with_undecodable_request_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica reclaims a job whose saved request it cannot decode. Before, it retried until the deadline of the
    job."""

    def encode_damaged(documents: OrderDocuments) -> dict[str, bytes]:
        return {**encode_order_documents(documents), REQUEST: b'{"prompt":1}'}

    monkeypatch.setattr(job_creation, "encode_order_documents", encode_damaged)
    disturbances = {FIRST_COMMIT: (Disturbance(DisturbanceKind.KILL_AFTER),)}
    client = replace(CALM.clients[0], policy=find_policy("runs"))
    result = explore(1, replace(CALM, clients=(client,)), replace(NO_DISTURBANCE, by_failpoint=disturbances))
    assert "The saved request cannot be decoded, so no order is sent: ValidationError" in result.story
    assert "is failed: 0 of 1 images" in result.story
    assert "seller_client.send" not in result.story
    assert result.virtual_seconds < LEASE_SECONDS + 10


def test_late_images_are_booked_by_their_number() -> None:
    """A seller makes three of four images, without a price, when the job has expired already. Before, four were
    booked."""
    result = explore(1741, has_variations=False)
    assert not result.violations, result.story


@pytest.mark.parametrize("seed", [101_037, 102_059, 102_615])
def test_rejection_at_a_former_owner_does_not_close_an_order_that_was_sent_again(seed: int) -> None:
    """A replica was paused while it sent an order, which did not reach the seller or was rejected. Another one sent it
    again, and the seller charged. Before, the first one then closed the attempt as not charged."""
    result = explore(seed, has_variations=False)
    assert not result.violations, result.story


@pytest.mark.parametrize("seed", [1, 5, 20, 43])
def test_rejection_after_a_slow_commit_does_not_close_an_order_that_was_sent_meanwhile(seed: int) -> None:
    """The commit of an attempt takes so long that its worker loses the lease and regains it. Another one has sent the
    order meanwhile. Before, the first one then sent it, too, and believed that it was rejected."""
    client = replace(CALM.clients[0], image_count=2, policy=find_policy("tasks"))
    pauses = (0.3, 8.0), (9.0, 12.0)
    scenario = replace(CALM, clients=(client,), replica_count=2, is_calm=False, mood=SellerMood.SLOW, pauses=pauses)
    disturbances = {WORKER_COMMIT: (NO_DELAY, Disturbance(DisturbanceKind.DELAY_AFTER, 25.0))}
    result = explore(seed, scenario, replace(NO_DISTURBANCE, by_failpoint=disturbances))
    assert not result.violations, result.story


@pytest.mark.parametrize("has_quick_fetches", [False, True], ids=["saved as ready before", "not saved before"])
@pytest.mark.parametrize("delay", [0.0, 8.0], ids=["after the deletion", "during the deletion"])
def test_images_that_a_paused_replica_stores_late_are_deleted_with_their_job(
    delay: float, has_quick_fetches: bool
) -> None:
    """Another replica ended the job meanwhile, and its client deleted it. The images stayed in the storage."""
    disturbances = {
        SEND_ORDER: (Disturbance(DisturbanceKind.PAUSE_AFTER, 18.5),),
        DELETE_CONTENT: (Disturbance(DisturbanceKind.DELAY_BEFORE, delay),),
    }
    client = replace(CALM.clients[0], policy=find_policy("openai"), deletes_after=14.0)
    # The run lasts until the last client has its images.
    last_client = replace(CALM.clients[0], starts_at=24.0)
    scenario = replace(CALM, clients=(client, last_client), replica_count=2, has_quick_fetches=has_quick_fetches)
    result = explore(1, scenario, replace(NO_DISTURBANCE, by_failpoint=disturbances))
    lines = ["has deleted the job", "ResultFetcher._store_one -> storage.put"]
    assert sorted(lines, key=result.story.index) == lines[:: -1 if delay else 1]
    assert not result.violations, result.story


@pytest.mark.parametrize("seed", range(1, 7))
def test_lost_order_of_a_cancelled_job_is_not_sent_again(seed: int) -> None:
    """A replica sends a lost order of another one again, and its job is cancelled. Before, it continued to do so while
    it waited for the other replica."""
    client = replace(CALM.clients[0], policy=find_policy("runs-with-replay"), cancels_after=LEASE_SECONDS + 2)
    scenario = replace(CALM, clients=(client,), replica_count=2, is_calm=False, mood=SellerMood.LOSING)
    disturbances = {SEND_ORDER: (Disturbance(DisturbanceKind.KILL_BEFORE),)}
    result = explore(seed, scenario, replace(NO_DISTURBANCE, by_failpoint=disturbances))
    assert "is cancelled" in result.story
    assert not result.violations, result.story


@pytest.mark.parametrize("seed", range(1, 8))
def test_order_whose_ticket_is_saved_meanwhile_is_not_abandoned(seed: int) -> None:
    """A replica abandons the lost order of a paused one, and its commit is slow. The paused replica saves the ticket.
    Before, the first one then applied its decision to the order that was found."""
    client = replace(CALM.clients[0], policy=find_policy("tasks-without-replay"))
    scenario = replace(CALM, clients=(client,), replica_count=2, has_callbacks=False)
    disturbances = {
        SEND_ORDER: (Disturbance(DisturbanceKind.PAUSE_AFTER, 15.0),),
        WORKER_COMMIT: (NO_DELAY, NO_DELAY, Disturbance(DisturbanceKind.DELAY_BEFORE, 7.0)),
    }
    result = explore(seed, scenario, replace(NO_DISTURBANCE, by_failpoint=disturbances))
    assert "VersionConflict" in result.story
    assert not result.violations, result.story


@pytest.mark.parametrize("seed", range(5, 12))
def test_worker_that_regains_its_lease_awaits_the_one_that_had_it(seed: int) -> None:
    """Two replicas are paused in turn. Before, the first one abandoned an order whose response only the second one
    could receive."""
    client = replace(CALM.clients[0], policy=find_policy("openai"))
    pauses = (0.3, 8.0), (8.5, 12.0), (16.0, 8.0)
    scenario = replace(CALM, clients=(client,), replica_count=2, is_calm=False, mood=SellerMood.SLOW, pauses=pauses)
    result = explore(seed, scenario, NO_DISTURBANCE)
    assert not result.violations, result.story


@pytest.mark.parametrize("seed", [790, 794, 1146])
def test_slow_answer_does_not_count_as_time_in_which_an_order_is_missing(seed: int) -> None:
    """The seller does not find the order in two polls, one shortly after the other. The second answer is slow.
    Before, the order was abandoned with it, although the seller finds it later."""
    client = replace(CALM.clients[0], policy=find_policy("runs"))
    scenario = replace(CALM, clients=(client,), has_callbacks=False, is_calm=False)
    disturbances = {SEND_QUERY: (NO_DELAY, Disturbance(DisturbanceKind.DELAY_AFTER, 10.0))}
    result = explore(seed, scenario, replace(NO_DISTURBANCE, by_failpoint=disturbances))
    assert result.story.count("Answer 404") >= 2
    assert not result.violations, result.story


def test_order_whose_ticket_is_saved_late_is_polled_before_it_is_abandoned() -> None:
    """The commit of the ticket takes longer than the job may. Before, the job expired without its images."""
    disturbances = {WORKER_COMMIT: (NO_DELAY, Disturbance(DisturbanceKind.DELAY_BEFORE, 32.0))}
    story = run_calmly("runs", 1, replace(NO_DISTURBANCE, by_failpoint=disturbances))
    assert "is completed: 1 of 1 images" in story


@pytest.mark.parametrize("seed", [21, 30, 35, 45, 50])
def test_callback_of_a_lost_order_is_checked_again_after_no_answer(seed: int) -> None:
    """Only the callback names the order. If its ticket were forgotten, a paid order would not be delivered."""
    client = replace(CALM.clients[0], policy=find_policy("tasks-without-replay"))
    scenario = replace(CALM, clients=(client,), is_calm=False, mood=SellerMood.LOSING)
    result = explore(seed, scenario, NO_DISTURBANCE)
    assert "is completed: 1 of 1 images" in result.story
    assert not result.violations, result.story


@pytest.mark.parametrize("seed", [2, 3, 7])
def test_ticket_that_conflicts_with_a_change_by_another_replica_is_saved(seed: int) -> None:
    """The commit of the ticket is slow, and another replica saves a cancellation meanwhile. No callback follows,
    so that the order would be lost."""
    client = replace(CALM.clients[0], policy=find_policy("tasks-without-replay"), cancels_after=3.0)
    scenario = replace(CALM, clients=(client,), replica_count=2, has_callbacks=False)
    disturbances = {WORKER_COMMIT: (NO_DELAY, Disturbance(DisturbanceKind.DELAY_BEFORE, 6.0))}
    result = explore(seed, scenario, replace(NO_DISTURBANCE, by_failpoint=disturbances))
    assert "VersionConflict" in result.story
    assert "is cancelled: 1 of 1 images" in result.story
    assert not result.violations, result.story
