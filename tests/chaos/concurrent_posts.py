"""Clients that post each request several times at once, over all replicas, and repeat posts whose connection breaks."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence

import aiohttp

from tests.chaos.chaos_config import PROMPT_LENGTH
from tests.harness.gateway_process import API_KEY
from tests.harness.wait import GUARD_SECONDS

# One prompt for all, so that the simulated seller renders one image. Only the keys distinguish the requests.
PROMPT = "a lighthouse at dawn ".ljust(PROMPT_LENGTH, ".")
# Of the posts of a key, one at each of two replicas waits for the end of the job.
WAITING_POSTS, WAIT_SECONDS = 2, 30
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.05, 1.0


class ConcurrentPosts:
    """Posts each key `copies` times at once. `job_ids_by_key` has the jobs of all answers, `interrupted_keys` those
    keys of which a sent post got no answer, since its connection broke."""

    def __init__(self, urls: Sequence[str], seller: str, copies: int) -> None:
        self.job_ids_by_key: dict[str, set[str]] = defaultdict(set)
        self.interrupted_keys: set[str] = set()
        self.answer_count = self.repeat_count = 0
        self._finished_key_count, self._progress = 0, asyncio.Condition()
        self._urls, self._copies = urls, copies
        self._body = json.dumps({"prompt": PROMPT, "quality": "low", "policy": seller}).encode()

    async def post_all(self, keys: Iterable[str], keys_at_once: int) -> None:
        numbered_keys = iter(enumerate(keys))
        # A connection for each post: a kept one could break before the post was sent.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        headers = {"authorization": f"Bearer {API_KEY}", "content-type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=GUARD_SECONDS)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            await asyncio.gather(*(self._post_in_turn(session, numbered_keys) for _ in range(keys_at_once)))

    async def wait_for_keys(self, count: int) -> None:
        """Waits until all posts of so many keys are answered."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._finished_key_count >= count)

    async def _post_in_turn(self, session: aiohttp.ClientSession, numbered_keys: Iterable[tuple[int, str]]) -> None:
        for number, key in numbered_keys:
            wait_seconds = [WAIT_SECONDS if copy < WAITING_POSTS else 0 for copy in range(self._copies)]
            await asyncio.gather(
                *(
                    self._post_until_answered(session, key, number + copy, seconds)
                    for copy, seconds in enumerate(wait_seconds)
                )
            )
            async with self._progress:
                self._finished_key_count += 1
                self._progress.notify_all()

    async def _post_until_answered(
        self, session: aiohttp.ClientSession, key: str, first_url: int, wait_seconds: int
    ) -> None:
        """Repeats the post at the next replica, with the headers of an SDK, until it is answered."""
        headers = {"idempotency-key": key, "prefer": f"wait={wait_seconds}"}
        retry, backoff_seconds = 0, MIN_BACKOFF_SECONDS
        async with asyncio.timeout(2 * GUARD_SECONDS):
            while not await self._post(session, key, first_url + retry, headers):
                retry += 1
                headers["x-stainless-retry-count"] = str(retry)
                self.repeat_count += 1
                await asyncio.sleep(backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, MAX_BACKOFF_SECONDS)

    async def _post(self, session: aiohttp.ClientSession, key: str, url_number: int, headers: dict[str, str]) -> bool:
        """Returns whether the post was answered."""
        url = self._urls[url_number % len(self._urls)]
        try:
            async with session.post(f"{url}/v1/jobs", data=self._body, headers=headers) as answer:
                content = await answer.read()
        except aiohttp.ClientConnectorError:
            # The replica is starting, and nothing was sent.
            return False
        except aiohttp.ClientError:
            self.interrupted_keys.add(key)
            return False
        if answer.status == 503:
            return False
        assert answer.status in (200, 202), content.decode()
        self.job_ids_by_key[key].add(json.loads(content)["id"])
        self.answer_count += 1
        return True
