"""Makes the items of a conversation in a request for a response."""

from typing import Any

from gateway.api.responses_api.response_ids import make_call_id
from tests.unit.routing.catalogue_factory import make_catalogue

CATALOGUE = make_catalogue(())
JOB_ID = "job_07" + "a" * 26
TOOL = {"type": "image_generation"}


def make_message(role: str, *parts: Any) -> dict[str, Any]:
    return {
        "role": role,
        "content": [{"type": "input_text", "text": part} if isinstance(part, str) else part for part in parts],
    }


def make_image_part(url: str) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url}


def make_call(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": "image_generation_call", "id": make_call_id(JOB_ID, index), "status": "completed", **fields}
