"""Mutants: deliberate bugs of the engine, which the explorer must catch. `make mutants` prints which check catches
each.

Each mutant replaces functions in the running process, so a renamed function fails here at once.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from msgspec import Struct
from msgspec.structs import replace

from gateway.assets.object_keys import make_object_prefix
from gateway.engine import callback_handler, engine, job_creation, job_worker, order_tracker, result_fetcher
from gateway.engine.engine import Engine
from gateway.engine.input_uploader import InputUploader
from gateway.engine.job_worker import JobWorker
from gateway.engine.mailbox import Mailbox
from gateway.engine.moderation import HookDecision, HookVerdict, ModerationUnavailable, RequestRefused
from gateway.engine.order_submitter import OrderSubmitter
from gateway.engine.result_fetcher import ResultFetcher
from gateway.jobs import commit, job_update_types, transitions
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import AttemptStarted, ImagesStored
from gateway.store.base import StoreOutcomeUnknown
from providers.faults import VERDICTS, FaultKind, PartConsequence
from tests.explore.explorer import explore
from tests.explore.mutant import AttributePatch, Mutant
from tests.explore.recovery_mutants import RECOVERY_MUTANTS
from tests.harness.memory_store import job_leases

ROOT = Path(__file__).parents[2]
# The quick tests that run the engine or the jobs in their own process: `make test` also runs gateways of their own.
TEST_FOLDERS = ("tests/unit/jobs", "tests/unit/engine", "tests/store")
# Without the explored runs among the unit tests, and with the store in memory, which one of the mutants changes.
TEST_EXCLUSIONS = ("explored", "redis", "sqlite", "single", "clustered", "races")
TEST_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-k", " and ".join(f"not {name}" for name in TEST_EXCLUSIONS))
_TESTS_SCRIPT = """
import sys
import pytest
from tests.explore.mutants import install
install(sys.argv[1])
sys.exit(pytest.main([*sys.argv[2:], "-W", "ignore::pytest.PytestAssertRewriteWarning"]))
"""


def _send_lost_order_again(send: Any) -> Any:
    async def send_twice(self: OrderSubmitter, offer: Any, attempt_number: int, call: Any, fence: int) -> None:
        await send(self, offer, attempt_number, call, fence)
        if self._job_context.get_attempt(attempt_number).response_lost_at is not None:
            await send(self, offer, attempt_number, call, fence)

    return send_twice


def _resend_with_other_key(resend_order: Any) -> Any:
    async def resend(context: Any, job: Any, attempt: Any, offer: Any, call: Any) -> Any:
        key = f"{call.headers['idempotency-key']}-{context.draw_random()}"
        call = replace(call, headers={**call.headers, "idempotency-key": key})
        return await resend_order(context, job, attempt, offer, call)

    return resend


def _build_commit_without_fence(build_commit: Any) -> Any:
    return lambda self, *args: replace(build_commit(self, *args), fence=None)


def _book_cost_again(correct_cost: Any) -> Any:
    """The cost of an attempt that is booked already is booked once more."""
    return lambda job, attempt, booking: transitions.replace_attempt(job, transitions.set_booking(attempt, booking))


def _report_images_twice(post: Any) -> Any:
    """The engine ignores the second report."""

    async def post_twice(self: Any, update: Any, **options: Any) -> bool:
        is_saved = await post(self, update, **options)
        if isinstance(update, ImagesStored):
            await post(self, update, **options)
        return is_saved

    return post_twice


def _forget_due_time(claim_job: Any) -> Any:
    def claim(state: Any, job_id: str, *args: Any) -> Any:
        claimed = claim_job(state, job_id, *args)
        state.due_times[job_id] = float("inf")
        return claimed

    return claim


def _trust_callback(verify_ticket: Any) -> Any:
    async def trust(*_: Any) -> bool:
        return True

    return trust


def _release_hold_at_ticket(hold: Any) -> Any:
    def get_hold(job: Job) -> int:
        return 0 if any(attempt.ticket for attempt in job.attempts) else hold.fget(job)

    return property(get_hold)


def _bind_ticket_to_first_attempt(apply: Any) -> Any:
    return lambda job, fact, now: apply(job, replace(fact, attempt=1), now)


def _allow_each_image(check_image: Any) -> Any:
    async def check(*args: Any) -> HookDecision:
        await check_image(*args)
        return HookDecision(HookVerdict.ALLOWED)

    return check


def _allow_each_request(check_request: Any) -> Any:
    async def check(*args: Any) -> None:
        with suppress(RequestRefused, ModerationUnavailable):
            await check_request(*args)

    return check


def _fail_over(verdict: Any) -> Any:
    return replace(verdict, consequence=PartConsequence.FAIL_OVER)


def _submit_each_image_twice(submit: Any) -> Any:
    def submit_twice(self: OrderSubmitter, images: tuple[int, ...], action: Any) -> None:
        submit(self, images, action)
        key, doubled = ("submit again", images), vars(self).setdefault("doubled", set())
        if images not in doubled:
            doubled.add(images)
            self._job_context.start_task(key, lambda: self._run_submission(key, images, action))

    return submit_twice


def _send_refused_attempt(record_attempt: Any) -> Any:
    """The order is sent even if its attempt was refused, since another task orders the same images."""

    async def record(self: OrderSubmitter, key: Any, offer: Any, *order: Any) -> Any:
        route_index, images, spec = order
        recorded = await record_attempt(self, key, offer, *order)
        if recorded is not None:
            return recorded
        number, entry = len(self._job_context.job.attempts), self._job_context.job.route[route_index]
        built_order = self._build_order(offer, entry, number, len(images), spec)
        return number, offer.seller.adapter.submit.build_call(built_order), self._job_context.fence

    return record


def _send_before_saving(post: Any) -> Any:
    """An attempt is saved while its order is sent already."""

    async def post_later(self: Any, *new_updates: Any, **options: Any) -> bool:
        posted = post(self, *new_updates, **options)
        if not any(isinstance(update, AttemptStarted) for update in new_updates):
            return await posted
        task = asyncio.create_task(posted)
        await asyncio.wait((task,), timeout=0.001)
        return task.result() if task.done() else True

    return post_later


def _ignore_late_cost(close_late: Any) -> Any:
    """The images of a job that has ended are not booked."""

    def close(job: Job, attempt: Any, cost: Any, made_count: Any, now: float) -> Job:
        booking = (None, 0)
        closed = transitions.close_attempt(attempt, FaultKind.ORDER_TIMED_OUT, cost, now, booking)
        return transitions.replace_attempt(job, closed)

    return close


def _record_image_before_storing(store_one: Any) -> Any:
    async def store_later(self: ResultFetcher, *args: Any) -> Any:
        storage = self._context.storage
        put = storage.put

        async def put_later(*put_args: Any) -> None:
            asyncio.get_running_loop().call_later(1.0, lambda: asyncio.ensure_future(put(*put_args)))

        with patch.object(storage, "put", put_later):
            return await store_one(self, *args)

    return store_later


def _end_without_waiting(is_settled: Any) -> Any:
    """A job counts as settled when its team sees the end, although orders are open."""
    return property(lambda job: job.state.is_terminal)


def _ignore_seller_of_upload(initialize: Any) -> Any:
    """An input that was uploaded to one seller is never uploaded to another."""

    def initialize_uploader(self: InputUploader, *args: Any) -> None:
        initialize(self, *args)
        self._uploaded_urls = _UrlsOfAllSellers()

    return initialize_uploader


def _keep_waiting_parts(apply: Any) -> Any:
    def request_cancellation(job: Job, fact: Any, now: float) -> Any:
        cancelled = apply(job, fact, now)
        return replace(job, is_cancel_requested=True) if isinstance(cancelled, Job) else cancelled

    return request_cancellation


def _allow_order_after_cancellation(find_order_refusal: Any) -> Any:
    return lambda job, *args: find_order_refusal(replace(job, is_cancel_requested=False), *args)


def _allow_more_attempts(decide: Any) -> Any:
    return lambda job, *args: decide(replace(job, max_attempts=job.max_attempts + 1), *args)


def _capture_missing_images(apply: Any) -> Any:
    """The team pays for all images of an order, although it received only some."""

    def store(job: Job, fact: Any, now: float) -> Any:
        stored = apply(job, fact, now)
        attempt = stored.get_attempt(fact.attempt) if isinstance(stored, Job) else None
        if attempt is None or not (attempt.delivered_count and attempt.orphaned_amount):
            return stored
        captured_amount = attempt.captured_amount + attempt.orphaned_amount
        return transitions.replace_attempt(stored, replace(attempt, captured_amount=captured_amount, orphaned_amount=0))

    return store


class _UrlsOfAllSellers(dict[Any, Any]):
    def get(self, key: Any, default: Any = None) -> Any:
        return next((url for (_, input_key), url in self.items() if input_key == key[1]), default)


def _discard_inputs_of_unknown_commit(save_job: Any) -> Any:
    async def save(context: Any, command: Any, prepared: Any, degraded: Any) -> Any:
        try:
            return await save_job(context, command, prepared, degraded)
        except StoreOutcomeUnknown:
            await job_creation.discard_inputs(context, prepared.commit.job.id)
            raise

    return save


def _keep_leases(hand_over: Any) -> Any:
    async def keep(*_: Any) -> None:
        """The job waits until its lease expires."""

    return keep


def _delete_job_before_its_images(delete_expired: Any) -> Any:
    async def delete(self: Engine) -> None:
        store, storage = self.context.store, self.context.storage
        swapped_store = SimpleNamespace(
            list_jobs_to_clean_up=store.list_jobs_to_clean_up,
            load_job=store.load_job,
            delete_job=lambda job_id: storage.delete_prefix(make_object_prefix(job_id)),
            delete_expired=store.delete_expired,
        )
        swapped_storage = SimpleNamespace(delete_prefix=lambda prefix: store.delete_job(prefix.split("/")[1]))
        context = SimpleNamespace(store=swapped_store, storage=swapped_storage)
        await delete_expired(SimpleNamespace(context=context, save_fact=self.save_fact))

    return delete


def _delete_costs(apply: Any) -> Any:
    """The deletion of a job's content deletes what its orders cost, too."""

    def delete(job: Job, fact: Any, now: float) -> Any:
        deleted = apply(job, fact, now)
        if not isinstance(deleted, Job):
            return deleted
        return replace(deleted, attempts=tuple(transitions.set_booking(each, (None, 0)) for each in deleted.attempts))

    return delete


def _keep_late_images(discard: Any) -> Any:
    async def keep(*_: Any) -> None:
        """Images stay that a paused replica stores after the deletion of their job."""

    return keep


MUTANTS = (
    Mutant("blind resubmit", (AttributePatch(OrderSubmitter, "send", _send_lost_order_again),)),
    Mutant("random idempotency key", (AttributePatch(order_tracker, "resend_order", _resend_with_other_key),)),
    Mutant("no fence", (AttributePatch(JobWorker, "_build_commit", _build_commit_without_fence),)),
    Mutant(
        "settle twice",
        (
            AttributePatch(transitions, "_correct_cost", _book_cost_again),
            AttributePatch(Mailbox, "post", _report_images_twice),
        ),
    ),
    Mutant("due dropped on claim", (AttributePatch(job_leases, "claim_job", _forget_due_time),)),
    Mutant(
        "callback trusted without a question",
        (
            AttributePatch(callback_handler, "verify_ticket", _trust_callback),
            AttributePatch(order_tracker, "verify_ticket", _trust_callback),
        ),
    ),
    Mutant("hold released too early", (AttributePatch(Job, "hold", _release_hold_at_ticket),)),
    Mutant(
        "ticket bound to another attempt",
        (AttributePatch(transitions._TRANSITIONS, job_update_types.TicketReceived, _bind_ticket_to_first_attempt),),
    ),
    Mutant("retry after content refusal", (AttributePatch(VERDICTS, FaultKind.CONTENT_REFUSED, _fail_over),)),
    Mutant(
        "part bought by two tasks",
        (
            AttributePatch(OrderSubmitter, "submit", _submit_each_image_twice),
            AttributePatch(OrderSubmitter, "_record_attempt", _send_refused_attempt),
        ),
    ),
    Mutant("order sent before its attempt is saved", (AttributePatch(Mailbox, "post", _send_before_saving),)),
    Mutant("failover after a lost answer", (AttributePatch(VERDICTS, FaultKind.RESPONSE_LOST, _fail_over),)),
    Mutant(
        "order after a cancellation",
        (
            AttributePatch(transitions._TRANSITIONS, job_update_types.CancelRequested, _keep_waiting_parts),
            AttributePatch(transitions, "_find_order_refusal", _allow_order_after_cancellation),
        ),
    ),
    Mutant(
        "more attempts than the policy allows",
        (
            AttributePatch(transitions, "_set_next_state", _allow_more_attempts),
            AttributePatch(transitions, "_find_order_refusal", _allow_more_attempts),
        ),
    ),
    Mutant(
        "team pays for missing images",
        (AttributePatch(transitions._TRANSITIONS, job_update_types.ImagesStored, _capture_missing_images),),
    ),
    Mutant("late images not booked", (AttributePatch(transitions, "_close_late", _ignore_late_cost),)),
    Mutant(
        "image recorded before it is stored",
        (AttributePatch(ResultFetcher, "_store_one", _record_image_before_storing),),
    ),
    Mutant("job settled with open orders", (AttributePatch(Job, "is_settled", _end_without_waiting),)),
    Mutant("upload of another seller", (AttributePatch(InputUploader, "__init__", _ignore_seller_of_upload),)),
    Mutant(
        "inputs of a saved job discarded",
        (AttributePatch(job_creation, "_save_job", _discard_inputs_of_unknown_commit),),
    ),
    Mutant("withheld image ordered again", (AttributePatch(VERDICTS, FaultKind.IMAGE_WITHHELD, _fail_over),)),
    Mutant("refused image stored", (AttributePatch(result_fetcher, "check_image", _allow_each_image),)),
    Mutant("refused request ordered", (AttributePatch(job_creation, "check_request", _allow_each_request),)),
    Mutant("outcome not recorded", (AttributePatch(commit, "encode_job_outcome", lambda _: lambda outcome: None),)),
    Mutant("drained replica keeps its leases", (AttributePatch(Engine, "_hand_over", _keep_leases),)),
    Mutant(
        "job deleted before its images", (AttributePatch(Engine, "_delete_expired", _delete_job_before_its_images),)
    ),
    Mutant(
        "costs deleted with a job",
        (AttributePatch(transitions._TRANSITIONS, job_update_types.JobContentDeleted, _delete_costs),),
    ),
    Mutant("prompt of a deleted job kept", (AttributePatch(engine, "list_document_names", lambda _: lambda job: ()),)),
    Mutant(
        "late images of a deleted job kept",
        (AttributePatch(ResultFetcher, "_discard_if_deleted", _keep_late_images),),
    ),
    Mutant(
        "documents of late images saved",
        (AttributePatch(job_worker, "_is_late_delivery", lambda _: lambda update, job: False),),
    ),
    *RECOVERY_MUTANTS,
)


@contextmanager
def apply_mutant(mutant: Mutant) -> Iterator[None]:
    with ExitStack() as stack:
        for attribute_patch in mutant.patches:
            stack.enter_context(_apply_patch(attribute_patch))
        yield


def install(name: str) -> None:
    """Gives this process the mutant of this name for the rest of its life."""
    [mutant] = [mutant for mutant in MUTANTS if mutant.name == name]
    for attribute_patch in mutant.patches:
        _apply_patch(attribute_patch).start()


def _apply_patch(attribute_patch: AttributePatch) -> Any:
    owner, name = attribute_patch.owner, attribute_patch.name
    if isinstance(owner, dict):
        return patch.dict(owner, {name: attribute_patch.make(owner[name])})
    original = vars(owner)[name]
    return patch.object(owner, name, attribute_patch.make(original))


class Catch(Struct, frozen=True):
    """The run that caught a mutant, and how long the search took."""

    seed: int
    violation: str
    seconds: float


def catch_mutant(mutant: Mutant) -> Catch | None:
    """Explores seeds until a run fails. Returns None if none of `max_runs` fails.

    Raises TypeError if the mutant calls a function of the engine that has other arguments by now.
    """
    started_at = time.process_time()
    with apply_mutant(mutant):
        for seed in range(mutant.max_runs):
            if violations := explore(seed).violations:
                if "TypeError" in violations[0]:
                    raise TypeError(f"the mutant does not fit the engine any more: {violations[0]}")
                return Catch(seed, violations[0], time.process_time() - started_at)
    return None


def catch_with_tests(name: str) -> str | None:
    """Runs the quick tests with this mutant. Returns the first test that fails, None if all pass."""
    command = [sys.executable, "-c", _TESTS_SCRIPT, name, *TEST_FOLDERS, *TEST_OPTIONS]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    failures = [line.split()[1] for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if not failures and " passed" not in output:
        raise RuntimeError(f"the tests did not run: {output[-2000:]}")
    return failures[0] if failures else None


def _describe_catch_by_explorer(mutant: Mutant) -> str | None:
    catch = catch_mutant(mutant)
    return catch and f"{catch.seconds:7.1f} {catch.seed:5}  {catch.violation[:110]}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.explore.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="only mutants whose name contains this text")
    parser.add_argument("--tests", action="store_true", help="run the quick tests in place of the explorer")
    arguments = parser.parse_args()
    survivors = 0
    print(f"{'mutant':<40} " + ("first failed test" if arguments.tests else f"{'seconds':>7} {'seed':>5}  caught by"))
    for mutant in MUTANTS:
        if arguments.only not in mutant.name:
            continue
        catch = catch_with_tests(mutant.name) if arguments.tests else _describe_catch_by_explorer(mutant)
        survivors += catch is None
        print(f"{mutant.name:<40} {catch or 'NOT CAUGHT'}".replace("\n", " "), flush=True)
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
