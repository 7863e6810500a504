"""Every error message of docs/errors.md: at most two sentences, and one more about the charge."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.api.api_errors import ApiError
from gateway.api.charge_sentences import CHARGE_SENTENCES, CHARGED_IF_DELIVERED, NOT_CHARGED
from gateway.api.server_error_responses import record_created_job, select_charge_sentence, track_job_creation

ERRORS_PAGE = Path(__file__).parents[3] / "docs" / "errors.md"
ORDERING_PATHS = ("/v1/images/generations", "/v1/jobs")
SENTENCE_END = re.compile(r"[.?!…](?= (?![KM]iB)[A-Z]|$)")


def read_messages(section: str) -> list[tuple[str, str]]:
    """Reads the codes and messages of one table. `make check` compares the page with the code."""
    table = ERRORS_PAGE.read_text().partition(f"## {section}")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return [(row[0].strip("| `"), message) for row in rows for message in row[2].split("<br>")]


REQUEST_MESSAGES, FAILED_JOB_MESSAGES = read_messages("Requests"), read_messages("Jobs that ended without images")


def render_message(error: ApiError, scope: dict[str, Any]) -> str:
    content, _ = error.render(scope["path"], "req_1", select_charge_sentence(scope))
    message: str = json.loads(content)["error"]["message"]
    return message


def make_scope(path: str, has_job: bool = False, method: str = "POST") -> dict[str, Any]:
    scope: dict[str, Any] = {"method": method, "path": path, "state": {}}
    if has_job:
        with track_job_creation(scope["state"], is_idempotent=True):
            record_created_job(scope["state"], "job_1")
    return scope


def find_charge_sentences(message: str) -> list[str]:
    return [sentence for sentence in CHARGE_SENTENCES for _ in range(message.count(sentence))]


def test_page_lists_messages_of_both_tables() -> None:
    codes = {code for code, _ in REQUEST_MESSAGES + FAILED_JOB_MESSAGES}
    assert {"invalid_json", "store_unavailable", "still_running", "no_offer", "outcome_unknown", "withdrawn"} <= codes


@pytest.mark.parametrize(("code", "message"), REQUEST_MESSAGES)
def test_error_of_ordering_request_states_charge_once(code: str, message: str) -> None:
    error = ApiError(400, code, message)
    for path in ORDERING_PATHS:
        for has_job, sentence in ((False, NOT_CHARGED), (True, CHARGED_IF_DELIVERED)):
            text = render_message(error, make_scope(path, has_job))
            assert text.endswith(sentence)
            assert find_charge_sentences(text) == [sentence]
            assert text.count("charged") == 1


@pytest.mark.parametrize(("code", "message"), REQUEST_MESSAGES)
def test_error_of_other_request_mentions_no_charge(code: str, message: str) -> None:
    error = ApiError(400, code, message)
    for scope in (make_scope("/v1/jobs/job_1", method="GET"), make_scope("/callbacks/runapi/job_1/1/x")):
        assert "charge" not in render_message(error, scope)


@pytest.mark.parametrize(("code", "message"), FAILED_JOB_MESSAGES)
def test_error_of_failed_job_states_charge_once(code: str, message: str) -> None:
    (sentence,) = find_charge_sentences(message)
    assert message.endswith(sentence)
    explanation = message.removesuffix(sentence).rstrip()
    assert "charge" not in explanation
    error = ApiError(424, code, explanation, charge_sentence=sentence)
    for has_job in (False, True):
        assert render_message(error, make_scope("/v1/images/generations", has_job)) == message


@pytest.mark.parametrize(("code", "message"), REQUEST_MESSAGES + FAILED_JOB_MESSAGES)
def test_message_has_at_most_two_sentences_besides_the_charge(code: str, message: str) -> None:
    for sentence in CHARGE_SENTENCES:
        message = message.removesuffix(sentence)
    assert 1 <= len(SENTENCE_END.findall(message.strip())) <= 2, (code, message)
