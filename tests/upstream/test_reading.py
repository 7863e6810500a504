"""Large answers are read beside everything else."""

import asyncio
import threading
from base64 import b64encode

import msgspec
import pytest

from gateway.upstream.reading import AT_ONCE_BYTES, understood
from providers import ADAPTERS
from providers.faults import Fault, FaultKind
from providers.orders import Inline
from providers.progress import Ready, Unanswered
from providers.spec import Answer
from tests.upstream.servers import run

READ = ADAPTERS["openai"].submit.read


def test_while_a_large_answer_is_read_everything_else_goes_on() -> None:
    went_on = threading.Event()

    def read(_: Answer) -> bool:
        return went_on.wait(60.0)

    async def reads() -> bool | Unanswered:
        asyncio.get_running_loop().call_later(0.05, went_on.set)
        return await understood(read, Answer(200, {}, bytes(AT_ONCE_BYTES + 1)))

    assert run(reads()) is True


def test_a_small_answer_is_read_at_once() -> None:
    async def reads() -> object:
        return await understood(lambda _: threading.current_thread(), Answer(200, {}, bytes(AT_ONCE_BYTES)))

    assert run(reads()) is threading.current_thread()


def test_where_no_answer_came_nothing_is_read() -> None:
    lost = Unanswered(fault=Fault(kind=FaultKind.LOST))
    assert run(understood(READ, lost)) is lost


@pytest.mark.parametrize("pictures", [1, 10])
def test_pictures_of_sixty_megabytes_come_whole(pictures: int) -> None:
    data = bytes(range(256)) * (45 * 4_096 // pictures) + b"the end"
    entries = [{"b64_json": b64encode(data).decode()}] * pictures
    answer = Answer(200, {}, msgspec.json.encode({"created": 1, "data": entries}))
    assert len(answer.body) > 60_000_000
    ready = run(understood(READ, answer))
    assert isinstance(ready, Ready)
    assert [one.data for one in ready.pictures if isinstance(one, Inline)] == [data] * pictures
