"""Large responses are read in a thread."""

import asyncio
import threading
from base64 import b64encode

import msgspec
import pytest

from gateway.upstream.response_parser_thread import MAX_INLINE_BYTES, parse_response
from providers import ADAPTERS
from providers.adapter import Answer
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer, Ready
from providers.orders import ImageBytes
from tests.upstream.fake_servers import run_async

READ_ANSWER = ADAPTERS["openai"].submit.read_answer


def test_reading_a_large_response_does_not_block_the_loop() -> None:
    loop_continued = threading.Event()

    def wait_for_loop(_: Answer) -> bool:
        return loop_continued.wait(60.0)

    async def scenario() -> bool | NoAnswer:
        asyncio.get_running_loop().call_later(0.05, loop_continued.set)
        return await parse_response(wait_for_loop, Answer(200, {}, bytes(MAX_INLINE_BYTES + 1)))

    assert run_async(scenario()) is True


def test_small_response_is_read_on_the_loops_thread() -> None:
    async def scenario() -> object:
        return await parse_response(lambda _: threading.current_thread(), Answer(200, {}, bytes(MAX_INLINE_BYTES)))

    assert run_async(scenario()) is threading.current_thread()


def test_missing_response_is_returned_unread() -> None:
    lost = NoAnswer(fault=Fault(kind=FaultKind.RESPONSE_LOST))
    assert run_async(parse_response(READ_ANSWER, lost)) is lost


@pytest.mark.thorough
@pytest.mark.parametrize("image_count", [1, 10])
def test_sixty_megabytes_of_images_are_read_completely(image_count: int) -> None:
    data = bytes(range(256)) * (45 * 4_096 // image_count) + b"the end"
    entries = [{"b64_json": b64encode(data).decode()}] * image_count
    answer = Answer(200, {}, msgspec.json.encode({"created": 1, "data": entries}))
    assert len(answer.body) > 60_000_000
    ready = run_async(parse_response(READ_ANSWER, answer))
    assert isinstance(ready, Ready)
    assert [image.data for image in ready.images if isinstance(image, ImageBytes)] == [data] * image_count
