"""Invariants of a job after every commit, checked from its commits alone."""

from collections import Counter

from gateway.jobs.budgets import list_budget_windows, list_owners
from gateway.jobs.commit import Commit, decode_job
from gateway.jobs.job import Attempt, Job, PartState, SellerResponse
from gateway.jobs.job_outcome import decode_job_outcome
from gateway.jobs.next_actions import (
    MAX_RECLAIMS_WITHOUT_PROGRESS,
    AbandonJob,
    AwaitClient,
    WithdrawJob,
    derive_actions,
)
from gateway.jobs.seller_response_recorder import (
    MAX_CODE_CHARACTERS,
    MAX_JOB_CHARACTERS,
    MAX_LATER_MESSAGE_CHARACTERS,
    MAX_MESSAGE_CHARACTERS,
)
from gateway.jobs.transition_tables import (
    ATTEMPT_TRANSITIONS,
    JOB_TRANSITIONS,
    PART_TRANSITIONS,
    LedgerLine,
    TransitionTable,
)

TRANSITIONS: tuple[TransitionTable, ...] = (JOB_TRANSITIONS, PART_TRANSITIONS, ATTEMPT_TRANSITIONS)


class CommitTotals:
    """A team's budget, the ledger and the published events of one job, summed over its commits as a store does."""

    def __init__(self, first_commit: Commit) -> None:
        self.job: Job | None = None
        self.max_attempts = first_commit.job.max_attempts
        self.holds: Counter[tuple[str, str]] = Counter()
        self.spends: Counter[tuple[str, str]] = Counter()
        self.ledger_amounts: Counter[tuple[int, LedgerLine]] = Counter()
        self.ledger_images: Counter[LedgerLine] = Counter()
        self.milestones: list[tuple[str, int | None]] = []
        self.webhooks: list[str] = []
        self.seen_transitions: set[tuple[object, object]] = set()
        self.delivering_attempts: dict[int, int] = {}
        self.add_commit(first_commit)

    def sum_line(self, line: LedgerLine) -> int:
        return sum(amount for (_, entry_line), amount in self.ledger_amounts.items() if entry_line is line)

    def add_commit(self, commit: Commit) -> None:
        """Adds a commit, and checks it against all commits before it."""
        for change in commit.budget_changes:
            self.holds[change.owner, change.window] += change.hold
            self.spends[change.owner, change.window] += change.spend
        for entry in commit.ledger_entries:
            self.ledger_amounts[entry.attempt, entry.line] += entry.amount
            self.ledger_images[entry.line] += entry.images
        for milestone in commit.milestones:
            self.milestones.append((milestone.name, milestone.image))
            assert milestone.number == len(self.milestones), "numbered without gaps"
        self.webhooks += (delivery.event_name for delivery in commit.webhook_deliveries)
        self._check_commit(commit)
        self.job = commit.job

    def _check_commit(self, commit: Commit) -> None:
        job = commit.job
        _check_encoding(self.job, commit)
        _check_due_time(commit)
        _check_images_and_attempts(job, self.max_attempts)
        _check_seller_responses(job)
        self._check_budget(commit)
        self._check_ledger(commit)
        self._check_job_outcome(commit)
        self._check_milestones(job)
        self._check_delivering_attempts(job)
        for transition in list_transitions(self.job, job):
            assert any(transition in table for table in TRANSITIONS), f"{transition} is not a listed transition"
            self.seen_transitions.add(transition)
        if self.job and self.job.state.is_terminal:
            _check_only_ledger_changed(self.job, commit)

    def _check_budget(self, commit: Commit) -> None:
        job, windows = commit.job, list_budget_windows(commit.job.created_at)
        open_images = sum(len(part.images) for part in job.parts if part.state.is_open)
        open_counts = Counter(
            image * job.split_count // job.n for part in job.parts if part.state.is_open for image in part.images
        )
        max_images = min(entry.max_images for entry in job.route)
        orders = sum(-(-count // max_images) for count in open_counts.values())
        assert (
            job.hold
            == (0 if job.state.is_terminal else job.hold_per_image * open_images + job.hold_per_order * orders)
            >= 0
        )
        before = self.job.hold + self.job.captured_amount if self.job else job.hold
        assert job.hold + job.captured_amount <= before, (
            "more of a budget is used than was there when the job was accepted"
        )
        balances = {(owner, window) for owner in list_owners(job.team, job.budget_key) for window in windows}
        assert {(change.owner, change.window) for change in commit.budget_changes} <= balances
        for balance in balances:
            assert (self.holds[balance], self.spends[balance]) == (job.hold, job.captured_amount)

    def _check_ledger(self, commit: Commit) -> None:
        job = commit.job
        assert self.sum_line(LedgerLine.CAPTURE) == job.captured_amount
        assert (
            self.ledger_images[LedgerLine.CAPTURE]
            == len(job.delivered_images)
            == sum(attempt.delivered_count for attempt in job.attempts)
        )
        for attempt in job.attempts:
            booked = {
                LedgerLine.CAPTURE: attempt.captured_amount,
                LedgerLine.ORPHAN: attempt.orphaned_amount,
                LedgerLine.SUSPECTED: attempt.suspected_amount,
                LedgerLine.EXCESS: job.get_excess(attempt.number),
                LedgerLine.FAILED: 0,
            }
            assert {line: self.ledger_amounts[attempt.number, line] for line in LedgerLine} == booked
            assert min(booked.values()) >= 0
            assert not (
                attempt.suspected_amount
                and attempt.orphaned_amount + attempt.captured_amount + job.get_excess(attempt.number)
            ), "known and suspected at once"
            assert attempt.delivered_count or not attempt.captured_amount + job.get_excess(attempt.number), (
                "paid for what was not delivered"
            )
            assert not (attempt.state.is_open and any(booked.values())), "booked before it was closed"
        for entry in commit.ledger_entries:
            entry_attempt = job.attempts[entry.attempt - 1]
            route_entry = job.route_entry(entry_attempt)
            assert (entry.day, entry.posted_at) == (list_budget_windows(job.created_at)[0], commit.committed_at)
            assert (entry.job, entry.team, entry.model) == (job.id, job.team, job.model)
            assert (entry.seller, entry.cell) == (route_entry.seller, route_entry.cell)

    def _check_job_outcome(self, commit: Commit) -> None:
        """Checks that a settled job, and no other, has an outcome, with the amounts of the ledger."""
        job = commit.job
        assert (commit.job_outcome is not None) == job.is_settled
        if commit.job_outcome is None:
            return
        outcome = decode_job_outcome(commit.job_outcome)
        assert (outcome.state, outcome.fault, outcome.delivered) == (job.state, job.fault, len(job.delivered_images))
        assert [outcome.captured, outcome.orphan, outcome.suspected, outcome.excess] == [
            self.sum_line(line)
            for line in (LedgerLine.CAPTURE, LedgerLine.ORPHAN, LedgerLine.SUSPECTED, LedgerLine.EXCESS)
        ]
        assert sum(attempt.cost for attempt in outcome.attempts) == sum(self.ledger_amounts.values())
        assert [(attempt.fault, attempt.delivered, attempt.images) for attempt in outcome.attempts] == [
            (attempt.fault, attempt.delivered_count, len(attempt.images)) for attempt in job.attempts
        ]

    def _check_delivering_attempts(self, job: Job) -> None:
        """Checks that each image belongs to the attempt that delivered it, and that this never changes."""
        before = self.job
        newly_delivered = [
            attempt.number
            for attempt in job.attempts
            if not before or attempt.delivered_count > _count_delivered(before, attempt.number)
        ]
        for image in job.delivered_images:
            if not before or image not in before.delivered_images:
                (self.delivering_attempts[image],) = newly_delivered
        assert job.delivering_attempts == self.delivering_attempts

    def _check_milestones(self, job: Job) -> None:
        names = [name for name, _ in self.milestones]
        end_names = [job.state.value] if job.state.is_terminal else []
        start_names = ["queued", "in_progress"] if job.attempts else ["queued"]
        assert [name for name in names if name != "image"] == [*start_names, *end_names]
        assert names[-1:] == end_names or not end_names, "the last published event"
        assert sorted(image for name, image in self.milestones if name == "image") == list(job.delivered_images)
        assert job.milestone_count == len(self.milestones)
        assert self.webhooks == [f"job.{state}" for state in end_names if job.has_webhook]


def _count_delivered(job: Job, number: int) -> int:
    attempt = job.get_attempt(number)
    return attempt.delivered_count if attempt else 0


def list_transitions(old: Job | None, new: Job) -> set[tuple[object, object]]:
    """Lists the transitions of the job, of each image and of each attempt. A first commit with an attempt counts as
    two."""
    if old is None:
        return {(None, "queued"), (None, PartState.WAITING)} if new.attempts else _list_all_transitions(None, new)
    return _list_all_transitions(old, new)


def _list_all_transitions(old: Job | None, new: Job) -> set[tuple[object, object]]:
    old_states, new_states = (_list_states(old) if old else {}), _list_states(new)
    assert old_states.keys() <= new_states.keys()
    return {(old_states.get(key), state) for key, state in new_states.items() if old_states.get(key) != state}


def _list_states(job: Job) -> dict[tuple[str, int], object]:
    images = {("image", image): part.state for part in job.parts for image in part.images}
    attempts = {("attempt", attempt.number): attempt.state for attempt in job.attempts}
    return {("job", 0): job.state} | images | attempts


def _check_encoding(old: Job | None, commit: Commit) -> None:
    job = commit.job
    assert (commit.expected_version, job.version) == ((old.version, old.version + 1) if old else (0, 1))
    assert decode_job(commit.encoded_job) == job
    assert (
        job.finished_at == max(job.created_at, commit.committed_at)
        or not job.state.is_terminal
        or (old is not None and old.state.is_terminal)
    )


def _check_due_time(commit: Commit) -> None:
    """Checks that unsettled jobs have a due time, and that actions can be derived at any time."""
    job = commit.job
    assert (commit.due_at is None) == job.is_settled
    assert commit.due_at is None or commit.due_at >= commit.committed_at
    for now in (commit.committed_at, job.deadline, job.deadline + 10_000_000):
        assert bool(derive_actions(job, now)) == (not job.is_settled)
    may_order = not (job.state.is_terminal or job.is_abandoned)
    after_crashes = derive_actions(job, commit.committed_at, MAX_RECLAIMS_WITHOUT_PROGRESS, is_created_here=True)
    assert after_crashes == (
        (AbandonJob(),) if may_order else derive_actions(job, commit.committed_at, is_created_here=True)
    )
    _check_confirmation(job, commit.committed_at)


def _check_confirmation(job: Job, now: float) -> None:
    is_open = not (job.is_confirmed or job.state.is_terminal)
    for reclaims in (0, 1, MAX_RECLAIMS_WITHOUT_PROGRESS):
        actions = derive_actions(job, now, reclaims)
        assert is_open == any(isinstance(action, AwaitClient | WithdrawJob) for action in actions)
        assert not is_open or len(actions) == 1


def _check_images_and_attempts(job: Job, max_attempts: int) -> None:
    assert sorted(image for part in job.parts for image in part.images) == list(range(job.n))
    assert [attempt.number for attempt in job.attempts] == list(range(1, len(job.attempts) + 1))
    assert job.state.is_terminal == (not any(part.state.is_open for part in job.parts))
    tries_by_image = Counter(image for attempt in job.attempts for image in attempt.images)
    assert max(tries_by_image.values(), default=0) <= max_attempts
    open_orders_by_image = Counter(
        image for attempt in job.attempts if attempt.state.is_open for image in attempt.images
    )
    assert max(open_orders_by_image.values(), default=0) <= 1, "one image, two orders"
    for part in job.parts:
        part_attempt = job.get_attempt(part.attempt or 0)
        assert (part.state is PartState.BUYING) == (part_attempt is not None)
        assert part_attempt is None or _is_ordering(part_attempt, part.images)
    for attempt in job.attempts:
        assert not attempt.state.is_open or job.find_part(attempt.number) or job.is_overdue, (
            "an open attempt without images that are awaited"
        )
        assert (attempt.closed_at is None) == attempt.state.is_open


def _is_ordering(attempt: Attempt, images: tuple[int, ...]) -> bool:
    return attempt.state.is_open and attempt.images == images


def _check_seller_responses(job: Job) -> None:
    """Checks that what sellers said stays short, and that no delivery keeps the explanation of a failure."""
    numbers = [entry.attempt for entry in job.seller_responses]
    assert numbers == sorted(set(numbers))
    messages = [entry.response.message for entry in job.seller_responses]
    assert all(len(message) <= MAX_MESSAGE_CHARACTERS for message in messages)
    assert sum(map(len, messages)) <= MAX_JOB_CHARACTERS + MAX_LATER_MESSAGE_CHARACTERS * len(messages)
    for number in numbers:
        attempt, response = job.attempts[number - 1], job.get_seller_response(number)
        assert response is not None
        assert response != SellerResponse()
        assert len(response.code or "") <= MAX_CODE_CHARACTERS
        assert attempt.state.is_open or attempt.fault is not None or response == SellerResponse(notes=response.notes)


def _check_only_ledger_changed(old: Job, commit: Commit) -> None:
    """Checks that only attempts and ledger change after a job's end, never its result for the team."""
    new = commit.job
    frozen_fields = (
        "state",
        "parts",
        "finished_at",
        "fault",
        "milestone_count",
        "delivered_images",
        "captured_amount",
        "is_overdue",
    )
    assert [getattr(new, name) for name in frozen_fields] == [getattr(old, name) for name in frozen_fields]
    assert new.warnings == (() if new.is_deleted else old.warnings)
    assert new.is_deleted or not old.is_deleted
    assert (commit.budget_changes, commit.milestones, commit.webhook_deliveries, commit.idempotency_ttl) == (
        (),
        (),
        (),
        None,
    )
    assert not old.is_settled or new.is_settled
    assert len(new.attempts) == len(old.attempts)
