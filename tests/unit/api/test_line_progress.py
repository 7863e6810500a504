"""The progress of a batch: lines end in any order, and a resumed batch writes each line once."""

from random import Random

from gateway.api.batches.batch_records import BatchProgress
from gateway.api.batches.file_content import LinePosition
from gateway.api.batches.line_progress import MAX_LINES_AHEAD, LineProgress

LINE_BYTES = 10


def test_position_advances_only_behind_lines_without_a_gap() -> None:
    progress = LineProgress(BatchProgress())
    assert all(progress.start_line(number, number * LINE_BYTES) for number in (1, 2, 4))
    progress.record_written(2, is_completed=True, cost=5)
    assert progress.take_snapshot() == BatchProgress(written=(2,), completed=1, cost=5)
    progress.record_written(1, is_completed=False, cost=0)
    snapshot = progress.take_snapshot()
    assert snapshot == BatchProgress(position=LinePosition(2, 20), completed=1, failed=1, cost=5)
    progress.record_written(4, is_completed=True, cost=1)
    assert progress.take_snapshot().position == LinePosition(4, 40)


def test_slow_line_holds_up_the_lines_far_behind_it() -> None:
    progress = LineProgress(BatchProgress())
    for number in range(1, MAX_LINES_AHEAD + 1):
        assert progress.has_room()
        progress.start_line(number, number)
        if number > 1:
            progress.record_written(number, is_completed=True, cost=0)
    assert not progress.has_room()
    progress.record_written(1, is_completed=True, cost=0)
    assert progress.has_room()
    assert progress.take_snapshot().written == ()


def test_batch_that_is_resumed_again_and_again_writes_each_line_once() -> None:
    random, written, snapshot = Random(7), [], BatchProgress()  # noqa: S311
    while snapshot.position.line < 100:
        progress, started = LineProgress(snapshot), []
        unsaved: list[int] = []
        for number in range(snapshot.position.line + 1, 101):
            if progress.start_line(number, number * LINE_BYTES):
                started.append(number)
            if started and random.random() < 0.6:
                unsaved.append(started.pop(random.randrange(len(started))))
                progress.record_written(unsaved[-1], is_completed=True, cost=1)
            if random.random() < 0.2:
                snapshot, written, unsaved = progress.take_snapshot(), [*written, *unsaved], []
            if random.random() < 0.05:
                break
        else:
            for number in started:
                progress.record_written(number, is_completed=True, cost=1)
            snapshot, written = progress.take_snapshot(), [*written, *unsaved, *started]
    assert sorted(written) == list(range(1, 101))
    assert (snapshot.completed, snapshot.cost, snapshot.written) == (100, 100, ())
