"""What each adapter makes of its seller's answers: every state, every error body, every oddity, by name."""

from typing import Any

import msgspec
import pytest

from providers import ADAPTERS
from providers.faults import Bought
from providers.progress import Failed, Unanswered
from providers.spec import Adapter, Step, Upload
from tests.contract import cases

# Outcomes that every seller's fixtures must name, or say why that seller cannot have them.
REQUIRED_OF_ALL = {
    "several pictures",
    "pictures, one unreadable",
    "no pictures: empty list",
    "pictures missing from the answer",
    "too many pictures",
    "cost missing",
    "cost negative",
    "cost NaN",
    "cost as words",
    "cost absurd",
    "failed",
    "content refused",
    "no id",
    "not JSON",
    "empty body",
    "truncated JSON",
    *("400", "401", "402", "403", "404", "409", "413", "422", "429", "500", "502 html", "503", "503 html", "504"),
    "429 with a wait",
    "429 with a date",
    "redirect",
}
REQUIRED_OF_POLLED = {"working", "unknown status word", "no status word"}
REQUIRED_OF_TICKETED = {"accepted", "unknown status word with an id"}


EMPTY = ((), [], {})


def told(value: object) -> Any:
    """A progress as plain data: without what is empty, and without the seller's prose."""
    plain = msgspec.to_builtins(value)
    plain.get("fault", {}).pop("message", None)
    return _pruned(plain)


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _pruned(one) for name, one in value.items() if one is not None and one not in EMPTY}
    return [_pruned(one) for one in value] if isinstance(value, list | tuple) else value


def meant(case: dict[str, Any]) -> Any:
    return _pruned(case["means"])


@pytest.mark.parametrize(("adapter", "case"), cases.each("submit"))
def test_an_answer_to_an_order_means(adapter: Adapter, case: dict[str, Any]) -> None:
    assert told(adapter.submit.read(cases.answer(case))) == meant(case)


@pytest.mark.parametrize(("adapter", "case"), cases.each("poll"))
def test_an_answer_to_a_poll_means(adapter: Adapter, case: dict[str, Any]) -> None:
    assert adapter.poll is not None
    assert told(adapter.poll.read(cases.answer(case))) == meant(case)


@pytest.mark.parametrize(("adapter", "case"), cases.each("find"))
def test_an_answer_to_a_search_means(adapter: Adapter, case: dict[str, Any]) -> None:
    assert adapter.find is not None
    assert told(adapter.find.read(cases.answer(case))) == meant(case)


def _upload_parameters() -> list[Any]:
    return [
        pytest.param(adapter, step, case, id=f"{name}-{step}-{case['case']}")
        for name, adapter in ADAPTERS.items()
        for step in ("prepare", "put", "confirm")
        for case in cases.upload_cases(name, step)
    ]


@pytest.mark.parametrize(("adapter", "step", "case"), _upload_parameters())
def test_an_answer_to_an_upload_means(adapter: Adapter, step: str, case: dict[str, Any]) -> None:
    (upload,) = (route for route in adapter.inputs if isinstance(route, Upload))
    read: Step[Any, Any] = getattr(upload, step)
    assert told(read.read(cases.answer(case))) == meant(case)


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))
def test_no_outcome_is_left_unnamed(adapter: Adapter) -> None:
    """A missing case is a missing decision."""
    excused = cases.not_applicable(adapter).keys()
    submit = {case["case"] for case in cases.cases(adapter.name, "submit")}
    poll = {case["case"] for case in cases.cases(adapter.name, "poll")}
    missing = REQUIRED_OF_ALL - submit - poll - excused
    if adapter.poll is not None:
        missing |= REQUIRED_OF_POLLED - poll - excused
        missing |= {name for name in REQUIRED_OF_TICKETED - excused if not any(name in case for case in submit)}
        missing |= {case for case in REQUIRED_OF_ALL if case[:1].isdigit()} - poll
    missing |= {case for case in REQUIRED_OF_ALL if case[:1].isdigit()} - submit
    assert missing == set()


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))
def test_fixtures_exist_for_every_step(adapter: Adapter) -> None:
    assert bool(cases.cases(adapter.name, "poll")) == (adapter.poll is not None)
    assert bool(cases.cases(adapter.name, "find")) == (adapter.find is not None)
    assert bool(cases.load(adapter.name, "callback")) == (adapter.callback is not None)
    uploads = any(isinstance(route, Upload) for route in adapter.inputs)
    assert all(bool(cases.upload_cases(adapter.name, step)) == uploads for step in ("prepare", "put", "confirm"))


@pytest.mark.parametrize(("adapter", "case"), cases.each("poll"))
def test_a_question_that_fails_never_ends_an_order(adapter: Adapter, case: dict[str, Any]) -> None:
    """A 503 while polling must not buy a second image."""
    assert adapter.poll is not None
    progress = adapter.poll.read(cases.answer(case))
    if not 200 <= case["status"] < 300:
        assert isinstance(progress, Unanswered)


@pytest.mark.parametrize(("adapter", "case"), cases.each("submit"))
def test_an_order_fails_at_once_only_where_nothing_is_left_open(adapter: Adapter, case: dict[str, Any]) -> None:
    progress = adapter.submit.read(cases.answer(case))
    if isinstance(progress, Unanswered):
        assert progress.fault.verdict.bought is Bought.PERHAPS
    if isinstance(progress, Failed) and case["status"] >= 300:
        assert progress.fault.verdict.bought is Bought.NO
