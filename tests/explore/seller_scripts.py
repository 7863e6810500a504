"""Scripts: the behaviour of a scripted seller for one order. Drawn from the seed of the run."""

from enum import StrEnum
from random import Random

from msgspec import Struct
from msgspec.structs import replace


class Reaction(StrEnum):
    """The seller's reaction when the order arrives. `accept_*`: it has the order, but does not say so clearly."""

    ACCEPT = "accept"
    REJECT = "reject"
    NOT_SENT = "not sent"
    LOSE_REQUEST = "lose the request"
    LOSE_ANSWER = "accept and lose the answer"
    FAIL_BEFORE = "fail before accepting"
    FAIL_AFTER = "accept and fail"
    GARBLE = "accept and garble the answer"


class ScriptedOutcome(StrEnum):
    """How an accepted order ends. Only images that were made are charged, and an empty success."""

    SUCCEED = "succeeds"
    MAKE_FEWER = "succeeds with fewer images"
    MAKE_NONE = "succeeds without images"
    FAIL = "fails"
    REFUSE_CONTENT = "is refused for its content"
    STAY_IN_PROGRESS = "stays in progress"


class CallbackHabit(StrEnum):
    NEVER = "never"
    AT_END = "at the end"
    EARLY = "before the answer to the order"
    LATE = "late"
    TWICE = "twice"
    FORGED = "forged"
    CROSSED = "with the id of another order"


class QueryFault(StrEnum):
    """What happens to a poll, a search or a download."""

    NONE = "none"
    LOST = "lost"
    UNAVAILABLE = "unavailable"
    GARBLED = "garbled"
    NOT_FOUND = "not found"
    REFUSED = "refused for its content"
    FAILED = "failed"


class SellerMood(StrEnum):
    """What all sellers of a run do more often than usual. Runs with a mood reach what few other runs reach."""

    USUAL = "usual"
    LOSING = "losing orders and answers"
    OVERCHARGING = "charging more than their price"
    GARBLING = "failing polls and downloads"
    SLOW = "slow to accept, fast to reject"


class OrderScript(Struct, frozen=True, kw_only=True):
    """How one order goes. `seconds`: until its end; `query_faults`: of the first queries about it. `surcharge`: beyond
    the price of each image, in percent."""

    reaction: Reaction = Reaction.ACCEPT
    status: int = 422
    retry_after: float | None = None
    outcome: ScriptedOutcome = ScriptedOutcome.SUCCEED
    seconds: float = 1.0
    answer_seconds: float = 0.05
    reports_cost: bool = True
    callback: CallbackHabit = CallbackHabit.NEVER
    query_faults: tuple[QueryFault, ...] = ()
    download_faults: tuple[QueryFault, ...] = ()
    surcharge: int = 0


REJECT_STATUSES = (400, 401, 402, 403, 404, 422, 429, 429, 503)
FAILURE_STATUSES = (500, 502, 503, 504)
REACTIONS = {
    Reaction.ACCEPT: 60,
    Reaction.REJECT: 9,
    Reaction.NOT_SENT: 4,
    Reaction.LOSE_REQUEST: 5,
    Reaction.LOSE_ANSWER: 9,
    Reaction.FAIL_BEFORE: 4,
    Reaction.FAIL_AFTER: 5,
    Reaction.GARBLE: 4,
}
OUTCOMES = {
    ScriptedOutcome.SUCCEED: 72,
    ScriptedOutcome.MAKE_FEWER: 6,
    ScriptedOutcome.MAKE_NONE: 5,
    ScriptedOutcome.FAIL: 9,
    ScriptedOutcome.REFUSE_CONTENT: 4,
    ScriptedOutcome.STAY_IN_PROGRESS: 4,
}
CALLBACKS = {
    CallbackHabit.NEVER: 30,
    CallbackHabit.AT_END: 30,
    CallbackHabit.EARLY: 10,
    CallbackHabit.LATE: 8,
    CallbackHabit.TWICE: 8,
    CallbackHabit.FORGED: 6,
    CallbackHabit.CROSSED: 8,
}
QUERY_FAULTS = {
    QueryFault.NONE: 70,
    QueryFault.LOST: 10,
    QueryFault.UNAVAILABLE: 8,
    QueryFault.GARBLED: 6,
    QueryFault.NOT_FOUND: 6,
}


def draw_order_script(random: Random, is_calm: bool, mood: SellerMood = SellerMood.USUAL) -> OrderScript:
    """Draws a script. A calm seller only varies its times and its callbacks."""
    return _apply_mood(_draw_usual_script(random, is_calm), mood, random)


def _draw_usual_script(random: Random, is_calm: bool) -> OrderScript:
    seconds = random.choice((0.05, 0.5, 1.0, 2.0, 4.0, 9.0, 25.0))
    answer_seconds = random.choice((0.01, 0.05, 0.3, 1.5))
    callback = _draw(random, CALLBACKS)
    if is_calm:
        return OrderScript(seconds=seconds, answer_seconds=answer_seconds, callback=callback)
    reaction = _draw(random, REACTIONS)
    is_failure = reaction in (Reaction.FAIL_BEFORE, Reaction.FAIL_AFTER)
    return OrderScript(
        reaction=reaction,
        status=random.choice(FAILURE_STATUSES if is_failure else REJECT_STATUSES),
        retry_after=random.choice((None, None, 1.0, 4.0)),
        outcome=_draw(random, OUTCOMES),
        seconds=seconds,
        answer_seconds=random.choice((answer_seconds, answer_seconds, 8.0)),
        reports_cost=random.random() < 0.8,
        callback=callback,
        query_faults=_draw_faults(random),
        download_faults=_draw_faults(random),
    )


def _draw_faults(random: Random) -> tuple[QueryFault, ...]:
    if random.random() < 0.6:
        return ()
    return tuple(_draw(random, QUERY_FAULTS) for _ in range(random.randint(1, 7)))


def _draw(random: Random, weights: dict) -> StrEnum:
    return random.choices(list(weights), list(weights.values()))[0]


def _apply_mood(script: OrderScript, mood: SellerMood, random: Random) -> OrderScript:
    match mood:
        case SellerMood.LOSING if random.random() < 0.7:
            reaction = random.choice((Reaction.LOSE_REQUEST, Reaction.LOSE_ANSWER, Reaction.FAIL_AFTER))
            return replace(script, reaction=reaction, status=random.choice(FAILURE_STATUSES))
        case SellerMood.OVERCHARGING:
            return replace(script, surcharge=random.choice((10, 60, 200)), reports_cost=True)
        case SellerMood.GARBLING:
            return replace(
                script,
                reaction=Reaction.ACCEPT,
                query_faults=_draw_persistent_faults(random),
                download_faults=_draw_persistent_faults(random),
            )
        case SellerMood.SLOW:
            if random.random() < 0.4:
                return replace(script, reaction=Reaction.REJECT, status=429, answer_seconds=0.05)
            seconds, answer_seconds = random.choice((4.0, 9.0)), random.choice((4.0, 8.0, 16.0))
            return replace(script, seconds=seconds, answer_seconds=answer_seconds)
    return script


def _draw_persistent_faults(random: Random) -> tuple[QueryFault, ...]:
    """Draws the same fault several times, then others."""
    faults = [fault for fault in QueryFault if fault not in (QueryFault.NONE, QueryFault.FAILED)]
    return (random.choice(faults),) * random.randint(1, 3) + _draw_faults(random)
