"""Mutated requests for responses, at every depth, become parameters of images or an error that names its cause."""

import copy
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from gateway.api.api_errors import ApiError
from gateway.api.parameter_definition import get_parameters
from gateway.api.parameter_normalization import normalize_fields
from gateway.api.request_body_reader import to_struct
from gateway.api.responses_api.response_ids import make_call_id, make_response_id
from gateway.api.responses_api.response_translation import ResponseParams
from tests.api.request_fuzzers import ODD_VALUES
from tests.unit.api.conversation_factory import CATALOGUE, JOB_ID, TOOL, make_call, make_image_part, make_message

COUNT = 1_500
WORDS = [
    *("message", "image_generation_call", "item_reference", "reasoning", "input_text", "input_image", "input_file"),
    *("user", "assistant", "system", "image_generation", "web_search", "auto", "edit", "generate", "none"),
    *("type", "role", "content", "result", "size", "stream", "prompt", "conversation"),
]
VALID_BODY: dict[str, Any] = {
    "model": "gpt-5",
    "input": [
        make_message("user", "a lighthouse", make_image_part("https://example.com/a.png")),
        make_call(),
        {"role": "assistant", "content": [{"type": "output_text", "text": "done", "annotations": []}]},
        {"type": "reasoning", "id": "rs_1"},
        make_message("user", "at night", {**make_image_part("data:image/png;base64,iVBORw0KGgo="), "detail": "low"}),
        {"type": "item_reference", "id": make_call_id(JOB_ID, 1)},
    ],
    "tools": [{**TOOL, "action": "auto", "n": 2, "quality": "low", "input_image_mask": {"image_url": "https://a/m"}}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [TOOL]},
    "previous_response_id": make_response_id(JOB_ID),
    "text": {"format": {"type": "text"}},
    "metadata": {"campaign": "spring"},
    "provider": {"only": ["runapi"]},
}
Path = tuple[str | int, ...]


def iterate_paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yields the path of every value within the value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, content in entries:
        yield (*path, name)
        yield from iterate_paths(content, (*path, name))


def mutate(body: dict[str, Any], source: random.Random) -> None:
    *parents, name = source.choice([*iterate_paths(body)] or [("input",)])
    container: Any = body
    for parent in parents:
        container = container[parent]
    value, kind = copy.deepcopy(source.choice([*ODD_VALUES, *WORDS])), source.random()
    if kind < 0.15 and parents:
        del container[name]
    elif kind < 0.3 and isinstance(container, dict):
        container[source.choice(WORDS)] = value
    elif kind < 0.4 and isinstance(container, list):
        container.append(value)
    else:
        container[name] = value


def find_error(body: dict[str, Any]) -> ApiError | None:
    """Returns the error of the request; None if it is valid."""
    try:
        translated = ResponseParams.translate_fields(body, CATALOGUE)
        values, _ = normalize_fields(translated.fields, get_parameters(ResponseParams), CATALOGUE)
        to_struct(values, ResponseParams)
    except ApiError as error:
        return error
    return None


def test_mutated_requests_are_valid_or_an_error() -> None:
    source, codes = random.Random(20_261_127), Counter[str]()  # noqa: S311
    for _ in range(COUNT):
        body = copy.deepcopy(VALID_BODY)
        for _ in range(source.choice((1, 1, 2, 3))):
            mutate(body, source)
        error = find_error(body)
        assert error is None or (error.status == 400 and len(error.message) < 1_500), error
        codes[error.code if error else ""] += 1
    assert codes[""] > COUNT // 10, codes
    assert len(codes) >= 6, codes
