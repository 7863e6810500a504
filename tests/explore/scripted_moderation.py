"""The moderation hooks of one run: they refuse some requests and images, and sometimes do not answer.

The same question always has the same decision, so that a worker that asks again after a crash gets it, too.
"""

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from random import Random

import msgspec

from gateway.catalogue import ModerationHook
from gateway.engine.job_documents import decode_image, decode_order_documents
from gateway.engine.moderation_client import ALLOWED, REFUSED, HookAnswer, HookQuestion
from gateway.jobs.document_names import image_document_name
from tests.harness.memory_storage import MemoryBackend
from tests.harness.memory_store import MemoryState
from tests.harness.memory_store.memory_state import StoredJob

REFUSED_SHARES = {"before": 0.15, "after": 0.3}
# Of a run in which the hooks are mostly down, images are withheld for that reason.
FAILURE_RATES = (0.0, 0.1, 0.8)
MAX_ANSWER_SECONDS = 0.5


class ScriptedHooks:
    """Answers questions. `allowed_prompts`, `allowed_images`: what it allowed, images by their digests."""

    def __init__(self, seed: int) -> None:
        self.allowed_prompts: set[str] = set()
        self.allowed_images: set[str] = set()
        self._seed, self._random = seed, Random(f"answers of hooks of {seed}")
        self._failure_rate = self._random.choice(FAILURE_RATES)

    async def ask(self, hook: ModerationHook, question: HookQuestion) -> HookAnswer:
        await asyncio.sleep(self._random.random() * MAX_ANSWER_SECONDS)
        if self._random.random() < self._failure_rate:
            return HookAnswer(outcome="timeout")
        if Random(f"{self._seed} {question.id}").random() < REFUSED_SHARES[hook.name]:
            return HookAnswer(outcome=REFUSED, status=200, reason="the script refuses it")
        content = msgspec.json.decode(question.body)
        if hook.name == "before":
            self.allowed_prompts.add(content["prompt"])
        else:
            self.allowed_images.add(content["sha256"])
        return HookAnswer(outcome=ALLOWED, status=200)


def list_moderation_violations(state: MemoryState, images: MemoryBackend, hooks: ScriptedHooks) -> Iterator[str]:
    """The hooks have allowed each request that became a job, and each image that is stored."""
    for job_id, stored in state.jobs.items():
        if (prompt := _load_prompt(stored)) is not None and prompt not in hooks.allowed_prompts:
            yield f"moderation: {job_id} was created without an answer that allows its request"
        for index, number in stored.job.delivering_attempts.items():
            document = stored.documents.get(image_document_name(number, index))
            if document is not None and decode_image(document).sha256 not in hooks.allowed_images:
                yield f"moderation: image {index} of {job_id} was delivered without an answer that allows it"
    for key, data in images.objects.items():
        if "/image-" in key and sha256(data).hexdigest() not in hooks.allowed_images:
            yield f"moderation: {key} was stored without an answer that allows it"


def _load_prompt(stored: StoredJob) -> str | None:
    """Returns the prompt of the job; None if its content was deleted."""
    documents = None if stored.job.is_deleted else decode_order_documents(stored.documents)
    return documents.request.prompt if documents else None
