"""What a seller's callback is worth: a hint that there is something to ask about. What counts is the answer to that."""

from collections.abc import Mapping

from gateway.engine.engine import Engine
from gateway.events import Trouble
from gateway.jobs.applying import Ignored
from gateway.jobs.commit import apply
from gateway.jobs.facts import CallbackSeen
from gateway.jobs.job import Job
from gateway.store.base import Stale

TRIES = 5


class Callbacks:
    """Whoever has an attempt's own address, and signs as its seller does, is heard."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hands = engine.hands

    async def hears(self, path: tuple[str, str, int, str], headers: Mapping[str, str], body: bytes) -> bool:
        """False if nobody but an impostor would say this. What comes late or twice is heard, and changes nothing."""
        adapter, name, number, seal = path
        if self._hands.callbacks is None or not self._hands.callbacks.is_ours(adapter, name, number, seal):
            return False
        job = await self._engine.job(name)
        attempt = job.attempt(number) if job else None
        if job is None or attempt is None:
            return True
        offer = self._hands.offer_at(job.place_of(attempt), job.model)
        spoken = offer.seller.adapter.callback if offer else None
        if offer is None or spoken is None:
            return True
        secrets = [secret.reveal() for secret in offer.seller.account.callback_secrets]
        if not secrets:
            # Without a secret nobody can tell who speaks: the order is asked about in its own time.
            return True
        if not spoken.verify(headers, body, secrets, self._hands.now()):
            self._hands.emit(Trouble(where="callbacks", what=f"a forged callback of {adapter}", job=name))
            return False
        if not await self._engine.called(name, number, spoken.read(body)):
            await self._tell_owner(job, number)
        return True

    async def _tell_owner(self, job: Job | None, number: int) -> None:
        """It works elsewhere: what is saved is heard there."""
        for _ in range(TRIES):
            commit = apply(job, CallbackSeen(attempt=number), self._hands.now()) if job else Ignored("gone")
            if isinstance(commit, Ignored) or not isinstance(await self._hands.store.commit(commit), Stale):
                return
            job = await self._hands.store.load(commit.job.id)
