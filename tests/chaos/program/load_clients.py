"""The clients of a chaos run, in a thread of their own: they order, repeat, cancel, leave, and wait for their jobs."""

import asyncio
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from random import Random
from typing import Any

import httpx

from tests.chaos.program.load_plan import LINES_PER_BATCH, ClientKind, PlannedClient
from tests.harness.gateway_process import API_KEY
from tests.harness.sample_images import encode_data_uri, make_image

REQUEST_TIMEOUT_SECONDS, WAIT_SECONDS = 8.0, 5
# A request is repeated later and later, and only so many clients are active at once: on a slow machine, gateways that
# live for seconds could otherwise answer none of them.
RETRY_SECONDS, MAX_RETRY_SECONDS = 0.25, 2.0
MAX_ACTIVE_CLIENTS, MAX_CONNECTIONS = 40, 100
JOB_KINDS = (ClientKind.JOB, ClientKind.EDIT, ClientKind.CANCEL, ClientKind.DELETE, ClientKind.KEYLESS)
JOB_ENDS = ("completed", "failed", "cancelled", "expired")
BATCH_ENDS = ("completed", "failed", "expired", "cancelled")
# Refusals that end by themselves: an outage, a drain, a limit, an account that is being configured.
TEMPORARY_STATUSES = (408, 424, 429, 502, 503, 504)
TEMPORARY_CODES = ("no_offer",)
AUTHORIZATION = {"authorization": f"Bearer {API_KEY}"}
INPUT_DATA_URI = encode_data_uri(make_image(256, 256))


class UnexpectedAnswer(Exception):
    """A client was answered as no client of these should be. It gives up."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.status_code} {response.text[:300]}")


class LoadRecord:
    """The answers that clients got. `jobs`: the ids by prompt. `ends`: the states that clients saw. `deleted_jobs`:
    that clients deleted; of `deletions` they got an answer. `batches`: the number of lines by id. `problems`: answers
    that no client should get."""

    def __init__(self) -> None:
        self.jobs: defaultdict[str, set[str]] = defaultdict(set)
        self.ends: dict[str, str] = {}
        self.deleted_jobs: set[str] = set()
        self.deletions: set[str] = set()
        self.batches: dict[str, int] = {}
        self.batch_counts: dict[str, dict[str, int]] = {}
        self.refused_batches: set[str] = set()
        self.problems: list[str] = []
        self.answers: Counter[int] = Counter()
        self.retry_count = self.replay_count = self.finished_count = 0

    @property
    def job_ids(self) -> set[str]:
        return {job_id for ids in self.jobs.values() for job_id in ids}


class LoadThread:
    """Runs all clients. `record` is theirs, and complete when `is_done`."""

    def __init__(self, plans: Iterable[PlannedClient], urls: list[str]) -> None:
        self.record = LoadRecord()
        self.error: BaseException | None = None
        self._plans, self._urls = list(plans), urls
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._started_at = 0.0

    def start(self) -> None:
        self._started_at = time.monotonic()
        self._thread.start()

    @property
    def has_active_rest(self) -> bool:
        """Whether all clients that have not finished are active."""
        return self.record.finished_count >= len(self._plans) - MAX_ACTIVE_CLIENTS

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Ends the clients that still wait."""
        self._stopped.set()
        self._thread.join(30.0)

    def _run(self) -> None:
        try:
            asyncio.run(self._run_all())
        except BaseException as error:  # noqa: BLE001 - the run reports it
            self.error = error

    async def _run_all(self) -> None:
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
        async with httpx.AsyncClient(
            timeout=REQUEST_TIMEOUT_SECONDS, headers=AUTHORIZATION, trust_env=False, limits=limits
        ) as http:
            clients = [LoadClient(plan, self._urls, http, self.record) for plan in self._plans]
            active = asyncio.Semaphore(MAX_ACTIVE_CLIENTS)
            tasks = [asyncio.create_task(client.run(self._started_at, active)) for client in clients]
            while pending := [task for task in tasks if not task.done()]:
                if self._stopped.is_set():
                    for task in pending:
                        task.cancel()
                await asyncio.wait(pending, timeout=0.5, return_when=asyncio.FIRST_EXCEPTION)
            for client, task in zip(clients, tasks, strict=True):
                if task.cancelled():
                    self.record.problems.append(f"{client.plan.name} ({client.plan.kind}) still waits at the end")
                elif error := task.exception():
                    self.record.problems.append(
                        f"{client.plan.name} ({client.plan.kind}) failed: {type(error).__name__} {error}"
                    )


class LoadClient:
    """One client, which talks to a random gateway at each request."""

    def __init__(self, plan: PlannedClient, urls: list[str], http: httpx.AsyncClient, record: LoadRecord) -> None:
        self.plan = plan
        self._urls, self._http, self._record = urls, http, record
        self._random = Random(plan.seed)  # noqa: S311 - it must be repeatable
        self._prompt = plan.make_prompt()

    async def run(self, started_at: float, active: asyncio.Semaphore) -> None:
        await asyncio.sleep(max(0.0, started_at + self.plan.start_at - time.monotonic()))
        async with active:
            await self._behave()
        self._record.finished_count += 1

    async def _behave(self) -> None:
        match self.plan.kind:
            case ClientKind.BATCH:
                await self._run_batch()
            case ClientKind.LEAVE:
                await self._leave()
            case ClientKind.LEAVE_AND_RETURN:
                await self._leave()
                await asyncio.sleep(self._random.uniform(0.0, 4.0))
                await self._wait_for_end(await self._order())
            case ClientKind.CANCEL:
                job_id = await self._order()
                await asyncio.sleep(self._random.uniform(0.0, 1.5))
                await self._send("POST", f"/v1/jobs/{job_id}/cancel")
                await self._wait_for_end(job_id)
            case ClientKind.DELETE:
                job_id = await self._order()
                await self._wait_for_end(job_id)
                await self._delete(job_id)
            case ClientKind.KEYLESS:
                if only_job := await self._try_order(0):
                    await self._wait_for_end(only_job)
            case _:
                await self._wait_for_end(await self._order())

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Sends a request to a random gateway. Returns None if it is not answered."""
        try:
            response = await self._http.request(method, self._random.choice(self._urls) + path, **options)
        except httpx.TransportError:
            return None
        self._record.answers[response.status_code] += 1
        return response

    # --- ordering

    @property
    def _path(self) -> str:
        return "/v1/jobs" if self.plan.kind in JOB_KINDS else "/v1/images/generations"

    def _make_body(self) -> bytes:
        """Makes the same bytes at each call, by which a repeated request is recognised."""
        body: dict[str, Any] = {
            "prompt": self._prompt,
            "quality": "low",
            "n": self.plan.image_count,
            "policy": self.plan.policy,
        }
        if self.plan.kind is ClientKind.EDIT:
            body |= {"operation": "edit", "image": INPUT_DATA_URI}
        if self._path != "/v1/jobs":
            body["response_format"] = "url"
        return json.dumps(body).encode()

    def _make_headers(self, try_number: int) -> dict[str, str]:
        match self.plan.kind:
            case ClientKind.KEYLESS:
                return {}
            case ClientKind.SDK_RETRY:
                return {"x-stainless-retry-count": str(try_number)}
        return {"idempotency-key": self.plan.name}

    async def _order(self) -> str:
        """Repeats the request until there is a job."""
        try_number = 0
        while True:
            if job_id := await self._try_order(try_number):
                return job_id
            try_number += 1
            self._record.retry_count += 1
            delay = min(RETRY_SECONDS * 2.0 ** min(try_number, 8), MAX_RETRY_SECONDS)
            await asyncio.sleep(delay * self._random.uniform(0.5, 1.5))

    async def _try_order(self, try_number: int) -> str | None:
        """Returns the job of the answer, if there is one."""
        headers = {**self._make_headers(try_number), "content-type": "application/json"}
        response = await self._send("POST", self._path, content=self._make_body(), headers=headers)
        if response is None:
            return None
        job_id: str | None = response.headers.get("x-igw-job-id")
        if job_id is not None:
            self._record.jobs[self._prompt].add(job_id)
            self._record.replay_count += "idempotent-replayed" in response.headers
        elif response.status_code not in TEMPORARY_STATUSES and _get_code(response) not in TEMPORARY_CODES:
            raise UnexpectedAnswer(response)
        return job_id

    async def _wait_for_end(self, job_id: str) -> None:
        while True:
            response = await self._send("GET", f"/v1/jobs/{job_id}", params={"wait": WAIT_SECONDS})
            if response is not None and response.status_code == 200:
                status = response.json()["status"]
                if status in JOB_ENDS:
                    self._record.ends[job_id] = status
                    return
                continue
            if response is not None and response.status_code not in TEMPORARY_STATUSES:
                raise UnexpectedAnswer(response)
            await asyncio.sleep(RETRY_SECONDS)

    async def _delete(self, job_id: str) -> None:
        """Repeats the deletion until it is answered. It is refused while a seller works on an order of the job."""
        self._record.deleted_jobs.add(job_id)
        while True:
            response = await self._send("DELETE", f"/v1/jobs/{job_id}")
            if response is not None and response.status_code == 200:
                self._record.deletions.add(job_id)
                return
            if response is not None and response.status_code not in (409, *TEMPORARY_STATUSES):
                raise UnexpectedAnswer(response)
            await asyncio.sleep(1.0)

    async def _leave(self) -> None:
        """Sends the request, or a part of it, and closes the connection."""
        content = self._make_body()
        headers = {**AUTHORIZATION, **self._make_headers(0), "content-type": "application/json", "host": "gateway"}
        lines = [f"POST {self._path} HTTP/1.1", f"content-length: {len(content)}"]
        head = "\r\n".join(lines + [f"{name}: {value}" for name, value in headers.items()])
        request = head.encode() + b"\r\n\r\n" + content
        if self._random.random() < 0.2:
            request = request[: self._random.randrange(1, len(request))]
        port = int(self._random.choice(self._urls).rpartition(":")[2])
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        try:
            writer.write(request)
            await asyncio.sleep(self._random.uniform(0.0, 0.8))
        finally:
            writer.transport.abort()

    # --- batches

    async def _run_batch(self) -> None:
        """A batch that is refused while the account of its seller is being configured is sent again."""
        while batch := await self._send_batch():
            self._record.batch_counts[batch["id"]] = batch["request_counts"]
            codes = {error["code"] for error in (batch["errors"] or {"data": ()})["data"]}
            if not codes or not codes.issubset(TEMPORARY_CODES):
                return
            self._record.refused_batches.add(batch["id"])

    async def _send_batch(self) -> dict[str, Any] | None:
        """Returns the batch at its end. A batch whose creation is not answered is not created again: it may exist."""
        file_id = await self._upload_lines()
        body = {"input_file_id": file_id, "endpoint": "/v1/images/generations", "completion_window": "24h"}
        response = await self._send("POST", "/v1/batches", json=body)
        while response is not None and response.status_code == 503:
            await asyncio.sleep(RETRY_SECONDS)
            response = await self._send("POST", "/v1/batches", json=body)
        if response is None:
            return None
        if response.status_code != 200:
            raise UnexpectedAnswer(response)
        batch_id = response.json()["id"]
        self._record.batches[batch_id] = LINES_PER_BATCH
        while True:
            response = await self._send("GET", f"/v1/batches/{batch_id}")
            if response is not None and response.status_code == 200 and response.json()["status"] in BATCH_ENDS:
                batch: dict[str, Any] = response.json()
                return batch
            if response is not None and response.status_code == 404:
                raise UnexpectedAnswer(response)
            await asyncio.sleep(1.0)

    async def _upload_lines(self) -> str:
        body = {"quality": "low", "policy": self.plan.policy, "model": "gpt-image-2"}
        lines = [
            {
                "custom_id": f"line-{number}",
                "method": "POST",
                "url": "/v1/images/generations",
                "body": {**body, "prompt": self.plan.make_prompt(number)},
            }
            for number in range(LINES_PER_BATCH)
        ]
        content = b"\n".join(json.dumps(line).encode() for line in lines)
        while True:
            files = {"file": ("requests.jsonl", content)}
            response = await self._send("POST", "/v1/files", data={"purpose": "batch"}, files=files)
            if response is not None and response.status_code == 200:
                return str(response.json()["id"])
            if response is not None and response.status_code not in TEMPORARY_STATUSES:
                raise UnexpectedAnswer(response)
            await asyncio.sleep(RETRY_SECONDS)


def _get_code(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
