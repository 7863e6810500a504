"""Every job that this process works on: accepted here, rescued from others, kept ours, and handed over at the end."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from gateway.assets.keys import prefix_of
from gateway.engine.accepting import Accepting, Ask, accept_request
from gateway.engine.departures import Departures
from gateway.engine.hands import Hands
from gateway.engine.owner import Owner
from gateway.events import JobAccepted, JobRescued, Trouble, fault_of
from gateway.jobs.applying import Ignored
from gateway.jobs.commit import apply
from gateway.jobs.facts import JobConfirmed
from gateway.jobs.job import Job
from gateway.jobs.recovery import RESCUES_WITHOUT_PROGRESS
from gateway.store.base import BEATS_PER_LEASE, FIRST_FENCE, Applied, Claimed, StoreUnavailable, survival_seconds
from gateway.store.watching import Watch
from gateway.supervision import SupervisedTask, Supervisor

RESCUE_SECONDS = 1.0
# How long a job that may be deadly is alone, if nothing comes of it earlier, and how many sweeps such trials may take
# until others are looked for.
TRIAL_SECONDS, TRIALS_SHARE = 1.0, 5.0
# The upper bound for a suspect's last trial, before its job is abandoned.
LONGEST_TRIAL = 15.0
SHARE_SECONDS = 1.0
AUDIT_SECONDS = 60.0
SWEEP_SECONDS = 600.0
# For an answer to the last claim, at the end.
LAST_CLAIM_SECONDS = 2.0
# For writing down which callers have left, at the end.
DEPARTURES_SECONDS = 2.0
# How long a change made elsewhere may go unheard before somebody looks.
LOOK_SECONDS = 2.0


class Engine:
    """Started, it rescues and beats until it is stopped. `lease`: for how long the store takes a job to be ours."""

    def __init__(self, hands: Hands, lease: float) -> None:
        self.hands = hands
        self._lease = lease
        self.owners: dict[str, Owner] = {}
        self._running: set[asyncio.Task[None]] = set()
        self.departures = Departures(hands.store)
        self._chores: list[SupervisedTask] = []
        self._draining = asyncio.Event()
        self._hurried = asyncio.Event()
        # Held until what was claimed is owned or given away again.
        self._claiming = asyncio.Lock()
        self._is_over = False
        # When the store last took a write, by the clock of the hands: whoever shares writes every second.
        self.last_write = hands.clock()

    # --- life

    def start(self, supervisor: Supervisor) -> None:
        chores: dict[str, tuple[Callable[[], Awaitable[None]], float]] = {
            "engine.claim": (self._rescue, RESCUE_SECONDS),
            "engine.renew": (self._beat, self._lease / BEATS_PER_LEASE),
            "engine.share": (self._share, SHARE_SECONDS),
            "engine.audit": (self._audit, AUDIT_SECONDS),
            "engine.sweep": (self._sweep, SWEEP_SECONDS),
        }
        for name, (chore, seconds) in chores.items():
            self._chores.append(supervisor.run_every(name, seconds, chore))

    async def drain(self, seconds: float) -> int:
        """Claims nothing more, lets what is running finish, hands the rest over. How many jobs were handed over."""
        self._draining.set()
        ends = asyncio.create_task(self._all_ended()), asyncio.create_task(self._hurried.wait())
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        await self._finish_claim()
        left = list(self.owners.values())
        for task in (ending := (*ends, *self._running)):
            task.cancel()
        await asyncio.wait(ending)
        await asyncio.gather(*(chore.stop() for chore in self._chores))
        await asyncio.gather(*(self._hand_over(owner) for owner in left))
        self._is_over = True
        self.hands.waiting.tell_all()
        await self.departures.close(DEPARTURES_SECONDS)
        return len(left)

    def hurry(self) -> None:
        """Hands over now what is being drained."""
        self._hurried.set()

    async def _all_ended(self) -> None:
        while self._running:
            await asyncio.wait(self._running)

    async def _finish_claim(self) -> None:
        """Whatever is being claimed is handed over, too: others would wait for the end of its lease."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_CLAIM_SECONDS), self._claiming:
                return

    async def _hand_over(self, owner: Owner) -> None:
        with contextlib.suppress(StoreUnavailable):
            if owner.is_accepted_here and not owner.job.is_confirmed:
                # Its clients get the answer that another replica continues it.
                await self._save_confirmation(owner.job.id)
            await self.hands.store.snooze(owner.job.id, owner.fence, 0.0)

    # --- jobs

    async def accept(self, ask: Ask) -> Accepting:
        """A job that the store took is ours, and being worked on when this returns."""
        accepting = await accept_request(self.hands, ask)
        if isinstance(accepting.outcome, Applied):
            self._begin(accepting.commit.job, accepting.policy)
        return accepting

    async def confirm(self, name: str) -> Job | None:
        """Makes sure that a job is bought, whatever becomes of this process. As it is then: one that was withdrawn
        before stays so."""
        if owner := self.owners.get(name):
            await owner.confirmation.save()
            if owner.job.is_confirmed:
                return owner.job
        # This process does not own the job, or not any more: another replica may own it, and withdraw it.
        return await self._save_confirmation(name)

    async def _save_confirmation(self, name: str) -> Job | None:
        while job := await self.hands.store.load(name):
            commit = apply(job, JobConfirmed(), self.hands.now())
            if isinstance(commit, Ignored):
                return job
            if isinstance(await self.hands.store.commit(commit), Applied):
                return commit.job
        return None

    def _begin(self, job: Job, policy: str) -> None:
        self._tell_accepted(job, policy)
        self._own(job, FIRST_FENCE)

    def _tell_accepted(self, job: Job, policy: str) -> None:
        self.hands.emit(
            JobAccepted(
                job=job.id,
                team=job.team,
                model=job.model,
                images=job.n,
                cell=job.route[0].cell,
                policy=policy,
                config=job.config,
            )
        )

    def _own(self, job: Job, fence: int, rescues: int = 0, former_until: float = 0.0) -> Owner:
        owner = Owner(self.hands, job, fence, rescues, former_until)
        self.owners[job.id] = owner
        task = asyncio.create_task(owner.run())
        self._running.add(task)
        task.add_done_callback(lambda task: self._ended(owner, task))
        return owner

    def _ended(self, owner: Owner, task: "asyncio.Task[None]") -> None:
        if self.owners.get(owner.job.id) is owner:
            del self.owners[owner.job.id]
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # Whoever claims the job next goes on with it.
            self.hands.emit(Trouble(where="engine", what=fault_of(error), job=owner.job.id))

    async def job(self, name: str) -> Job | None:
        """As it is now, wherever it is worked on."""
        owner = self.owners.get(name)
        return owner.job if owner else await self.hands.store.load(name)

    async def wait(self, name: str, seconds: float) -> Job | None:
        """Until its team need wait no longer, for so long at most, and no longer than anybody here works on jobs."""
        ends = self.hands.clock() + seconds
        with Watch(self.hands.waiting, name) as here, self.hands.store.watch(name) as elsewhere:
            while True:
                job = await self.job(name)
                left = ends - self.hands.clock()
                if job is None or job.state.is_terminal or left <= 0 or self._is_over:
                    return job
                watch = here if name in self.owners else elsewhere
                await watch.changed(min(left, LOOK_SECONDS))

    def called(self, job: str, attempt: int, ticket: str | None) -> int | None:
        """Passes a seller's callback to the job's owner in this process, which asks about the order at once. The fence
        of that owner; None if this process does not own the job."""
        owner = self.owners.get(job)
        if owner is None or not owner.is_ours:
            return None
        owner.follower.called(attempt, ticket)
        return owner.fence

    async def owns(self, job: str, fence: int) -> bool:
        """Asks the store, since a process that stood still does not notice at once that it lost a lease."""
        owner = self.owners.get(job)
        if owner is None or owner.fence != fence:
            return False
        await self._renew({job: fence})
        return owner.is_ours and owner.fence == fence

    # --- chores

    async def _rescue(self) -> None:
        """Again as long as there are suspects to be tried out: in the time that one sweep takes, many of them pass."""
        ends = self.hands.clock() + RESCUE_SECONDS * TRIALS_SHARE
        while not self._draining.is_set():
            async with self._claiming:
                suspects = await self._take_over_all(await self.hands.store.claim())
            for suspect in suspects:
                await self._try_out(suspect)
            if not suspects or self.hands.clock() >= ends:
                return

    async def _take_over_all(self, claimed: Sequence[Claimed]) -> Sequence[Claimed]:
        """Returns the suspects, whose owners start a while after the others. While draining, claimed jobs are released
        at once."""
        together = [one for one in claimed if not one.is_suspect]
        await asyncio.gather(*(self._take_over_unless_draining(one) for one in together))
        suspects = claimed[len(together) :]
        if suspects and together:
            await self._drains_within(TRIAL_SECONDS)
        for one in suspects:
            await self._take_over_unless_draining(one)
        return suspects

    async def _drains_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._draining.wait()

    async def _take_over_unless_draining(self, claimed: Claimed) -> None:
        if not self._draining.is_set() or claimed.job.id in self.owners:
            self._take_over(claimed)
            return
        with contextlib.suppress(StoreUnavailable):
            await self.hands.store.snooze(claimed.job.id, claimed.fence, 0.0)

    async def _try_out(self, claimed: Claimed) -> None:
        """Lets an owner run a suspect alone, so that another crash is due to this job. If this process does not crash,
        it renews the lease at once, which resets the count unless earlier owners ran for longer before they crashed."""
        if (owner := self.owners.get(claimed.job.id)) is None:
            return
        seconds, ends = TRIAL_SECONDS, owner.desk.has_got_on
        if claimed.longest and claimed.rescues == RESCUES_WITHOUT_PROGRESS - 1:
            # After one more crash the job is abandoned: only a saved change or a longer life can still reset the count.
            seconds = min(survival_seconds(claimed.longest, self._lease) + TRIAL_SECONDS, LONGEST_TRIAL)
            ends = owner.desk.has_saved
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ends.wait()
        if self.owners.get(owner.job.id) is owner:
            await self._renew({owner.job.id: owner.fence})

    def _take_over(self, claimed: Claimed) -> Owner:
        job = claimed.job
        if owner := self.owners.get(job.id):
            # This process could not renew its lease for a while. Only this owner knows the orders on their way.
            owner.keep(claimed.fence)
            return owner
        self.hands.emit(JobRescued(job=job.id, rescues=claimed.rescues, config=job.config))
        return self._own(job, claimed.fence, claimed.rescues, self.hands.now() + self._lease)

    async def _beat(self) -> None:
        await self._renew({name: owner.fence for name, owner in self.owners.items()})

    async def _renew(self, leases: dict[str, int]) -> None:
        for name in await self.hands.store.beat(leases):
            if (owner := self.owners.get(name)) and owner.fence == leases[name] and not owner.job.is_settled:
                owner.lose()

    async def _share(self) -> None:
        hands, store = self.hands, self.hands.store
        await store.share(store.owner, hands.health.snapshot(hands.clock(), hands.now()))
        self.last_write = hands.clock()
        for name, told in (await store.shared()).items():
            hands.health.merge(name, told, hands.clock(), hands.now())

    async def _audit(self) -> None:
        for partition in self.hands.store.partitions:
            found = await self.hands.store.audit(partition)
            if found.violations:
                what = f"{found.violations} numbers were wrong in partition {partition} and are mended"
                self.hands.emit(Trouble(where="audit", what=what))

    async def _sweep(self) -> None:
        """A job's pictures go first: what is forgotten names them no more."""
        while outdated := await self.hands.store.outdated():
            for name in outdated:
                await self.hands.shelf.delete_prefix(prefix_of(name))
                await self.hands.store.forget(name)
        await self.hands.store.sweep()
