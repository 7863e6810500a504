"""Claims, renews and releases jobs of a store in memory. Each function is one atomic step."""

from collections.abc import Mapping

from gateway.store.base import MAX_EARLY_CRASHES, ClaimedJob, initial_lease_seconds, min_survival_seconds
from tests.harness.memory_store.memory_state import Claim, LeaseOwner, MemoryState, StoredJob


def claim_jobs(state: MemoryState, limit: int, owner: LeaseOwner, now: float) -> tuple[ClaimedJob, ...]:
    return tuple(claim_job(state, job_id, owner, now) for job_id in list_claimable(state, limit, now))


def list_claimable(state: MemoryState, limit: int, now: float) -> list[str]:
    """Lists the jobs that a claim returns, soonest first: those with few early crashes, and at most one suspect."""
    due = [(due_at, job_id) for job_id, due_at in state.due_times.items() if due_at <= now and job_id in state.jobs]
    due_ids = [job_id for _, job_id in sorted(due, key=lambda pair: pair[0])]
    open_ids = [job_id for job_id in due_ids if state.jobs[job_id].settled_at is None]
    batch = [job_id for job_id in open_ids if state.jobs[job_id].reclaims < MAX_EARLY_CRASHES]
    suspects = [job_id for job_id in open_ids if state.jobs[job_id].reclaims >= MAX_EARLY_CRASHES]
    return batch[:limit] + suspects[:1]


def claim_job(state: MemoryState, job_id: str, owner: LeaseOwner, now: float) -> ClaimedJob:
    stored = state.jobs[job_id]
    if stored.owner not in (None, owner.replica_id):
        _remove_owner_callers(state, stored)
        stored.max_owned_seconds = max(stored.max_owned_seconds, stored.owned_seconds)
    stored.owner, stored.fence, stored.reclaims = owner.replica_id, stored.fence + 1, stored.reclaims + 1
    stored.claimed_at, stored.owned_seconds = now, 0.0
    state.claims[job_id, stored.fence] = Claim(owner.replica_id, now, len(stored.job.attempts))
    state.due_times[job_id] = now + initial_lease_seconds(stored.reclaims, owner.lease)
    return ClaimedJob(
        job=stored.job,
        fence=stored.fence,
        reclaims=stored.reclaims,
        max_owned_seconds=stored.max_owned_seconds,
    )


def _remove_owner_callers(state: MemoryState, stored: StoredJob) -> None:
    """Removes the callers that waited for the job at its former owner."""
    job, prefix = stored.job, f"{stored.owner}:"
    if job.body_key is not None:
        state.request_keys.remove_callers(job.team, job.body_key, lambda name: name.startswith(prefix), job.id)


def renew_leases(state: MemoryState, leases: Mapping[str, int], owner: LeaseOwner, now: float) -> frozenset[str]:
    """Renews the leases. Returns the ids of the jobs that this replica no longer owns."""
    lost_ids = []
    for job_id, fence in leases.items():
        if stored := _find_owned_job(state, job_id, fence, owner):
            _renew_lease(state, stored, owner, now)
        else:
            lost_ids.append(job_id)
    return frozenset(lost_ids)


def _renew_lease(state: MemoryState, stored: StoredJob, owner: LeaseOwner, now: float) -> None:
    if stored.claimed_at is not None:
        stored.owned_seconds = round(now - stored.claimed_at, 3)
    longest = stored.max_owned_seconds
    if not longest or stored.owned_seconds > min_survival_seconds(longest, owner.lease):
        stored.reclaims = 0
    lease_ends_at, job_id = now + owner.lease, stored.job.id
    due_at = state.due_times.get(job_id, lease_ends_at)
    state.due_times[job_id] = max(due_at, lease_ends_at) if stored.reclaims else lease_ends_at


def expire_leases_of_killed(state: MemoryState, replica_id: str, now: float) -> int:
    """Records a heartbeat, and ends the leases of killed replicas, except those of suspects. Returns how many ended."""
    state.heartbeats[replica_id] = now
    expired_ids = [
        stored.job.id
        for stored in state.open_jobs
        if state.was_killed(stored.owner) and stored.reclaims < MAX_EARLY_CRASHES and _has_lease(state, stored, now)
    ]
    state.due_times |= dict.fromkeys(expired_ids, now)
    return len(expired_ids)


def _has_lease(state: MemoryState, stored: StoredJob, now: float) -> bool:
    return state.due_times.get(stored.job.id, now) > now


def release_job(state: MemoryState, job_id: str, fence: int, owner: LeaseOwner, due_at: float) -> bool:
    """Releases a job. Returns whether the replica owned it."""
    stored = _find_owned_job(state, job_id, fence, owner)
    if stored is None:
        return False
    stored.owner, stored.reclaims = None, max(0, stored.reclaims - 1)
    state.due_times[job_id] = due_at
    return True


def _find_owned_job(state: MemoryState, job_id: str, fence: int, owner: LeaseOwner) -> StoredJob | None:
    stored = state.jobs.get(job_id)
    is_owned = stored and stored.owner == owner.replica_id and stored.fence == fence and stored.settled_at is None
    return stored if is_owned else None
