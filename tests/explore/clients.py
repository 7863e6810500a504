"""The clients of a run: they request, retry, cancel, disconnect and delete as planned."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.api.api_errors import ApiError
from gateway.api.client_presence import ClientPresence
from gateway.api.job_submission import JobRequest, find_existing_job, submit_job
from gateway.api.parameter_table import ImageParams
from gateway.api.routing_query_builder import to_routing_query
from gateway.assets.storage import StorageError
from gateway.engine.job_creation import CreateJobCommand, NoOfferAvailable
from gateway.engine.moderation import ModerationUnavailable, RequestRefused
from gateway.jobs.commit import UNCOUNTED, IdempotencyRecord
from gateway.store.base import Applied, StoreUnavailable
from providers.orders import Operation
from tests.explore.edit_inputs import make_input_images
from tests.explore.replica import Replica, World
from tests.explore.scenario import ClientPlan
from tests.explore.sellers_config import TEAM

REQUEST_TIMEOUT_SECONDS = 40.0
RETRY_SECONDS, POLL_INTERVAL_SECONDS = 1.0, 0.1
# Short, so that some deletions come between the end of a job and that of its last order.
DELETION_RETRY_SECONDS = 0.3
WEBHOOK_URL = "https://client.test/webhook"


class Connection:
    """The connection of one request: it ends at this time of the clock."""

    def __init__(self, clock: Callable[[], float], ends_at: float) -> None:
        self._clock, self._ends_at = clock, ends_at

    @property
    def is_disconnected(self) -> bool:
        return self._clock() >= self._ends_at

    def promise_response(self) -> bool:
        return not self.is_disconnected


class ReplicaGone(Exception):
    """The replica was killed while it served the request, or none is there, or the connection ended."""


class Client:
    """One client. `pick_replica` returns a running replica, if there is any. `job_id`: of a response."""

    def __init__(self, world: World, plan: ClientPlan, number: int, pick_replica: Callable[[], Replica | None]) -> None:
        self._world, self._plan, self._pick_replica = world, plan, pick_replica
        self.name = f"client-{number}"
        self.job_id: str | None = None
        self.saw_end = self.has_deleted = False
        self._connection_ends_after = plan.connection_ends_after
        # The replica that waits for the job, and its record of this client.
        self._waiting_replica: tuple[Replica, ClientPresence] | None = None
        self._input_images = make_input_images(plan.input_count, plan.has_large_input, plan.has_mask)
        self._params = ImageParams(
            prompt=f"picture of {self.name}",
            n=plan.image_count,
            size="1024x1024",
            policy=plan.policy,
            labels=[f"label of {self.name}"],
        )

    @property
    def has_key(self) -> bool:
        return self._plan.has_key and not self._plan.has_webhook

    @property
    def _operation(self) -> Operation:
        return Operation.EDIT if self._plan.input_count else Operation.GENERATE

    async def run(self) -> None:
        await asyncio.sleep(self._plan.starts_at)
        for _ in range(self._plan.max_tries):
            try:
                self.job_id = await self._call_replica(self._submit)
            except (ApiError, StoreUnavailable, StorageError, ReplicaGone, TimeoutError) as error:
                self._tell(f"gets no job: {type(error).__name__} {getattr(error, 'code', '')}".strip())
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._tell(f"gets {self.job_id}")
                await self._wait_until_end()
                return

    def _tell(self, what: str) -> None:
        self._world.story.tell(self.name, what)

    async def _call_replica(self, request: Callable[[Replica], Awaitable[Any]]) -> Any:
        """Sends the request to a replica. The connection ends when the replica is killed."""
        replica = self._pick_replica()
        if replica is None:
            raise ReplicaGone
        answer = asyncio.ensure_future(request(replica))
        replica.requests.add(answer)
        answer.add_done_callback(replica.requests.discard)
        killed = asyncio.create_task(replica.killed.wait())
        await asyncio.wait((answer, killed), timeout=REQUEST_TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        killed.cancel()
        if answer.cancelled():
            raise ReplicaGone
        if answer.done():
            return answer.result()
        answer.add_done_callback(lambda task: task.cancelled() or task.exception())
        if not replica.is_killed:
            answer.cancel()
            raise TimeoutError
        raise ReplicaGone

    async def _submit(self, replica: Replica) -> str:
        context = replica.components.api_context
        if self._plan.has_webhook:
            return await self._create_job_with_webhook(replica)
        presence = ClientPresence(replica.name, self._open_connection())
        self._waiting_replica = replica, presence
        request = JobRequest(
            team=TEAM,
            params=self._params,
            operation=self._operation,
            input_images=self._input_images,
            idempotency=IdempotencyRecord(
                key=self.name,
                fingerprint=self.name,
                is_body_key=not self._plan.has_key,
                retry_count=0 if self._plan.has_key else UNCOUNTED,
                caller_id="" if self._plan.has_key else presence.client_id,
            ),
            presence=presence,
        )
        try:
            submitted = await find_existing_job(context, request) or await submit_job(context, request)
        except ApiError:
            presence.is_answered = True
            raise
        finally:
            self._remove_if_departed()
        if presence.is_disconnected:
            raise ReplicaGone
        return submitted.job_id

    def _open_connection(self) -> Any:
        """Opens the connection of one try. Only the first one ends early."""
        seconds, self._connection_ends_after = self._connection_ends_after, None
        return None if seconds is None else Connection(self._world.clock, self._world.clock() + seconds)

    def _remove_if_departed(self) -> None:
        """Removes this client from its job if its connection has ended, as the application does."""
        if self._waiting_replica is None:
            return
        replica, presence = self._waiting_replica
        if presence.is_disconnected and presence.idempotency_record is not None:
            replica.components.engine.job_caller_remover.remove_in_background(TEAM, presence.idempotency_record)

    async def _create_job_with_webhook(self, replica: Replica) -> str:
        """Calls the engine, since the explored configuration has no secret that the route requires."""
        context = replica.components.api_context
        images = self._input_images
        query = to_routing_query(context.catalogue(), self._params, TEAM, self._operation, images)
        command = CreateJobCommand(
            query=query,
            prompt=self._params.prompt,
            team=TEAM,
            webhook=WEBHOOK_URL,
            inputs=images.inputs,
            mask=images.mask,
        )
        try:
            result = await context.engine.create_job(command)
        except NoOfferAvailable as error:
            raise ApiError(400, "no_offer", str(error)) from None
        except (RequestRefused, ModerationUnavailable) as error:
            raise ApiError(400, "moderation", str(error)) from None
        if not isinstance(result.outcome, Applied):
            raise ApiError(503, "refused", "The job was refused.")
        return result.commit.job.id

    async def _wait_until_end(self) -> None:
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(self._poll_until_end())]
        if self._plan.cancels_after is not None:
            tasks.append(asyncio.create_task(self._cancel_job(self._plan.cancels_after)))
        if self._plan.deletes_after is not None:
            tasks.append(asyncio.create_task(self._delete_job(self._plan.deletes_after)))
        timeout = self._plan.disconnects_after
        started_at = loop.time()
        await asyncio.wait(tasks[:1], timeout=timeout)
        if timeout is not None and loop.time() - started_at >= timeout:
            self._tell("disconnects")
            self._disconnect()
        await asyncio.wait(tasks)

    def _disconnect(self) -> None:
        """Ends the request, in which the client has waited until now."""
        if self._waiting_replica is not None and self._waiting_replica[0].is_running:
            replica, presence = self._waiting_replica
            if presence.idempotency_record is not None:
                replica.components.engine.job_caller_remover.remove_in_background(TEAM, presence.idempotency_record)

    async def _poll_until_end(self) -> None:
        while not self.saw_end:
            job = await self._request_until_answered(
                lambda replica: replica.components.engine.wait_for_job(self.job_id, REQUEST_TIMEOUT_SECONDS / 2)
            )
            if job is not None and job.state.is_terminal:
                self.saw_end = True
                self._tell(f"sees that {job.id} is {job.state}: {len(job.delivered_images)} of {job.n} images")
            # A replica that drains answers at once.
            await asyncio.sleep(POLL_INTERVAL_SECONDS)

    async def _cancel_job(self, seconds: float) -> None:
        """Cancels the job at any replica: at the one that works on it, or at another one."""
        await asyncio.sleep(seconds)
        job = await self._request_until_answered(lambda replica: replica.components.engine.cancel_job(self.job_id))
        if job is not None and job.is_cancel_requested:
            self._tell("cancels the job")

    async def _delete_job(self, seconds: float) -> None:
        """Deletes the job at any replica. Repeats the request until the job is settled, and after errors."""
        await asyncio.sleep(seconds)
        while not self.has_deleted:
            job = await self._request_until_answered(
                lambda replica: replica.components.engine.delete_job_content(self.job_id)
            )
            self.has_deleted = job is not None and job.is_deleted
            self._tell("has deleted the job" if self.has_deleted else "may not delete the job yet")
            await asyncio.sleep(DELETION_RETRY_SECONDS)

    async def _request_until_answered(self, request: Callable[[Replica], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await self._call_replica(request)
            except (StoreUnavailable, StorageError, ReplicaGone, TimeoutError) as error:
                self._tell(f"gets no answer: {type(error).__name__}")
                await asyncio.sleep(RETRY_SECONDS)
