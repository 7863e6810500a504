"""What must hold of any job after any step, told from its commits alone."""

from collections import Counter

from gateway.jobs.commit import Commit, decode_job, windows_of
from gateway.jobs.job import Attempt, Job, PartState
from gateway.jobs.recovery import RESCUES_WITHOUT_PROGRESS, Abandon, AwaitCaller, Withdraw, recover
from gateway.jobs.tables import ATTEMPT_MOVES, JOB_MOVES, PART_MOVES, Line, Moves

MOVES: tuple[Moves, ...] = (JOB_MOVES, PART_MOVES, ATTEMPT_MOVES)


class Books:
    """A team's budget, the ledger, and what was told, as a store would add them up from one job's commits."""

    def __init__(self, accepted: Commit) -> None:
        self.job: Job | None = None
        self.tries = accepted.job.tries
        self.holds: Counter[str] = Counter()
        self.spends: Counter[str] = Counter()
        self.ledger: Counter[tuple[int, Line]] = Counter()
        self.images: Counter[Line] = Counter()
        self.milestones: list[tuple[str, int | None]] = []
        self.webhooks: list[str] = []
        self.seen: set[tuple[object, object]] = set()
        self.delivering: dict[int, int] = {}
        self.add(accepted)

    def on_line(self, line: Line) -> int:
        return sum(amount for (_, one), amount in self.ledger.items() if one is line)

    def add(self, commit: Commit) -> None:
        """Takes one more commit in, and holds it against everything that came before."""
        for move in commit.budget:
            self.holds[move.window] += move.hold
            self.spends[move.window] += move.spend
        for entry in commit.ledger:
            self.ledger[entry.attempt, entry.line] += entry.amount
            self.images[entry.line] += entry.images
        for milestone in commit.milestones:
            self.milestones.append((milestone.name, milestone.image))
            assert milestone.number == len(self.milestones), "numbered without gaps"
        self.webhooks += (delivery.name for delivery in commit.webhooks)
        self._hold(commit)
        self.job = commit.job

    def _hold(self, commit: Commit) -> None:
        job = commit.job
        _saved(self.job, commit)
        _due(commit)
        _images_and_attempts(job, self.tries)
        self._budget(commit)
        self._ledger(commit)
        self._told(job)
        self._delivered(job)
        for moved in moves(self.job, job):
            assert any(moved in listed for listed in MOVES), f"{moved} is no move that is listed"
            self.seen.add(moved)
        if self.job and self.job.state.is_terminal:
            _nothing_but_books(self.job, commit)

    def _budget(self, commit: Commit) -> None:
        job, windows = commit.job, windows_of(commit.job.created)
        waited_for = sum(len(part.images) for part in job.parts if part.state.is_open)
        orders = -(-waited_for // min(place.images for place in job.route))
        assert job.hold == (0 if job.state.is_terminal else job.unit * waited_for + job.order_hold * orders) >= 0
        before = self.job.hold + self.job.captured if self.job else job.hold
        assert job.hold + job.captured <= before, "more of a budget is used than was there when the job was accepted"
        assert {move.window for move in commit.budget} <= set(windows)
        for window in windows:
            assert (self.holds[window], self.spends[window]) == (job.hold, job.captured)

    def _ledger(self, commit: Commit) -> None:
        job = commit.job
        assert self.on_line(Line.CAPTURE) == job.captured
        assert self.images[Line.CAPTURE] == len(job.delivered) == sum(one.delivered for one in job.attempts)
        for one in job.attempts:
            booked = {
                Line.CAPTURE: one.captured,
                Line.ORPHAN: one.orphaned,
                Line.SUSPECTED: one.suspected,
                Line.EXCESS: job.excess(one.number),
            }
            assert {line: self.ledger[one.number, line] for line in Line} == booked
            assert min(booked.values()) >= 0
            assert not (one.suspected and one.orphaned + one.captured + job.excess(one.number)), (
                "known and suspected at once"
            )
            assert one.delivered or not one.captured + job.excess(one.number), "paid for what was not delivered"
            assert not (one.is_open and any(booked.values())), "booked before it was closed"
        for entry in commit.ledger:
            attempt = job.attempts[entry.attempt - 1]
            place = job.place_of(attempt)
            assert (entry.day, entry.at) == (windows_of(job.created)[0], commit.at)
            assert (entry.job, entry.team, entry.model) == (job.id, job.team, job.model)
            assert (entry.seller, entry.cell) == (place.seller, place.cell)

    def _delivered(self, job: Job) -> None:
        """Each image is known to come from the attempt that was delivered when it came, and from no other ever."""
        before = self.job
        came = [one.number for one in job.attempts if not before or one.delivered > _delivered_by(before, one.number)]
        for image in job.delivered:
            if not before or image not in before.delivered:
                (self.delivering[image],) = came
        assert job.delivering_attempts == self.delivering

    def _told(self, job: Job) -> None:
        names = [name for name, _ in self.milestones]
        ends = [job.state.value] if job.state.is_terminal else []
        begins = ["queued", "in_progress"] if job.attempts else ["queued"]
        assert [name for name in names if name != "image"] == [*begins, *ends]
        assert names[-1:] == ends or not ends, "the last thing that a team is told"
        assert sorted(image for name, image in self.milestones if name == "image") == list(job.delivered)
        assert job.milestones == len(self.milestones)
        assert self.webhooks == [f"job.{state}" for state in ends if job.webhook]


def _delivered_by(job: Job, number: int) -> int:
    attempt = job.attempt(number)
    return attempt.delivered if attempt else 0


def moves(old: Job | None, new: Job) -> set[tuple[object, object]]:
    """From what to what the job, each image and each attempt went. An acceptance that buys at once is two steps."""
    if old is None:
        return {(None, "queued"), (None, PartState.WAITING)} if new.attempts else _all_moves(None, new)
    return _all_moves(old, new)


def _all_moves(old: Job | None, new: Job) -> set[tuple[object, object]]:
    was, now = (_states(old) if old else {}), _states(new)
    assert was.keys() <= now.keys()
    return {(was.get(key), state) for key, state in now.items() if was.get(key) != state}


def _states(job: Job) -> dict[tuple[str, int], object]:
    images = {("image", image): part.state for part in job.parts for image in part.images}
    attempts = {("attempt", one.number): one.state for one in job.attempts}
    return {("job", 0): job.state} | images | attempts


def _saved(old: Job | None, commit: Commit) -> None:
    job = commit.job
    assert (commit.expected, job.version) == ((old.version, old.version + 1) if old else (0, 1))
    assert decode_job(commit.blob) == job
    assert job.finished == commit.at or not job.state.is_terminal or (old is not None and old.state.is_terminal)


def _due(commit: Commit) -> None:
    """Whatever is not settled is looked at again; what has to be done can be told at any time."""
    job = commit.job
    assert (commit.due is None) == job.is_settled
    assert commit.due is None or commit.due >= commit.at
    for now in (commit.at, job.deadline, job.deadline + 10_000_000):
        assert bool(recover(job, now)) == (not job.is_settled)
    may_buy = not (job.state.is_terminal or job.abandoned)
    deadly = recover(job, commit.at, RESCUES_WITHOUT_PROGRESS, is_accepted_here=True)
    assert deadly == ((Abandon(),) if may_buy else recover(job, commit.at, is_accepted_here=True))
    _bought_by_others_only_if_confirmed(job, commit.at)


def _bought_by_others_only_if_confirmed(job: Job, now: float) -> None:
    is_open = not (job.is_confirmed or job.state.is_terminal)
    for rescues in (0, 1, RESCUES_WITHOUT_PROGRESS):
        todos = recover(job, now, rescues)
        assert is_open == any(isinstance(todo, AwaitCaller | Withdraw) for todo in todos)
        assert not is_open or len(todos) == 1


def _images_and_attempts(job: Job, tries: int) -> None:
    assert sorted(image for part in job.parts for image in part.images) == list(range(job.n))
    assert [one.number for one in job.attempts] == list(range(1, len(job.attempts) + 1))
    assert job.state.is_terminal == (not any(part.state.is_open for part in job.parts))
    tried = Counter(image for one in job.attempts for image in one.images)
    assert max(tried.values(), default=0) <= tries
    buying = Counter(image for one in job.attempts if one.is_open for image in one.images)
    assert max(buying.values(), default=0) <= 1, "one image, two orders"
    for part in job.parts:
        attempt = job.attempt(part.attempt or 0)
        assert (part.state is PartState.BUYING) == (attempt is not None)
        assert attempt is None or _buys(attempt, part.images)
    for one in job.attempts:
        assert not one.is_open or job.part_of(one.number) or job.overdue, "bought for nobody"
        assert (one.closed is None) == one.is_open


def _buys(attempt: Attempt, images: tuple[int, ...]) -> bool:
    return attempt.is_open and attempt.images == images


def _nothing_but_books(old: Job, commit: Commit) -> None:
    """What became known after a job's end: its attempts, and with them the ledger. Never what the team was told."""
    new = commit.job
    told = ("state", "parts", "finished", "fault", "warnings", "milestones", "delivered", "captured", "overdue")
    assert [getattr(new, name) for name in told] == [getattr(old, name) for name in told]
    assert (commit.budget, commit.milestones, commit.webhooks, commit.linger) == ((), (), (), None)
    assert not old.is_settled or new.is_settled
    assert len(new.attempts) == len(old.attempts)
