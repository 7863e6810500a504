"""Secrets, prompts, images and file names appear in no log, metric, error, store key or object name.

They are sent in successes, refusals, crashes, invalid requests and sellers' failures, with debug lines switched on.
Each value is unique, so that the search for it is exact.
"""

import io
import json
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.api.internal_error_injection import FAILING_PROMPT, FAULT_MESSAGE
from tests.flow.flow_config import OPENAI, RUNAPI, RUNFLOW_RUNS, SECRET_ENVIRON, SELLERS, GatewaySetup
from tests.flow.gateway_on_store import GatewayAndStore, make_fixture_on_each_store
from tests.flow.order_flow import FlowGateway
from tests.harness.child_spec import Hook
from tests.harness.form_bodies import FORM_HEADERS, make_form, make_part
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.store.raw_redis import RawRedis
from tests.store.raw_sqlite import RawSqlite
from tests.store.raw_store import RawStore

PROMPT, FILE_NAME, WEBHOOK_TOKEN = "canary-prompt-4c1d", "canary-file-9b2e.png", "canary-hook-77aa"
ADMIN_KEY, SELLER_TEXT, WRONG_KEY = "canary-admin-key-51ee", "canary-seller-text-0d6f", "canary-wrong-key-3a3a"
URL_TOKEN, USER_INFO = "canary-url-token-b00b", "canary-user:canary-word"
HEADERS = {"authorization": f"Bearer {SECRET_ENVIRON['IGW_FLOW_KEY']}"}
SETUP = GatewaySetup(
    environ={"IGW_LOG_LEVEL": "debug", "IGW_ADMIN_KEY": ADMIN_KEY},
    hooks=(Hook("tests.api.internal_error_injection:install_internal_error"),),
)
SELLER_FAULTS: list[dict[str, Any]] = [
    {"kind": "status", "status": 500, "body": SELLER_TEXT},
    {"kind": "status", "status": 401, "body": json.dumps({"error": {"message": f"{SELLER_TEXT} {PROMPT}"}})},
    {"kind": "status", "status": 422, "body": json.dumps({"error": SELLER_TEXT, "message": PROMPT})},
    {"kind": "html", "status": 502, "body": SELLER_TEXT},
    {"kind": "fail", "message": f"{SELLER_TEXT}: {PROMPT}", "code": SELLER_TEXT},
    {"kind": "truncate"},
    {"kind": "reset_before"},
    {"kind": "status", "route": "poll", "status": 500, "body": SELLER_TEXT},
    {"kind": "status", "route": "download", "status": 404, "body": SELLER_TEXT},
]
# These fail each order of a response or a batch at once, without a second attempt at the same seller.
ORDER_FAULTS = [fault for fault in SELLER_FAULTS[1:5] if fault["kind"] != "html"]

# Codes that must occur, so that all kinds of errors are searched: refused, invalid, failed at a seller, crashed.
EXPECTED_CODES = {
    *("invalid_api_key", "missing_api_key", "link_invalid", "callback_refused", "route_not_found"),
    *("invalid_json", "invalid_form", "invalid_value", "invalid_image", "invalid_image_url", "unsupported_media_type"),
    *("order_refused", "outcome_unknown", "sellers_failed", "internal_error"),
}

gateway_and_store = make_fixture_on_each_store(SETUP)


class Canaries:
    """Sends the canaries: the values that must not leak.

    `values`: all canaries by name; `errors`: all responses with an error status; `failures`: failed responses,
    event streams with an error, and error files of batches.
    """

    def __init__(self, gateway: FlowGateway, sandbox: RunningSandbox) -> None:
        self.gateway, self.sandbox = gateway, sandbox
        self.image = make_canary_image()
        encoded = b64encode(self.image).decode()
        self.image_uri = f"data:image/png;base64,{encoded}"
        self.values = {
            **SECRET_ENVIRON,
            **{"prompt": PROMPT, "file name": FILE_NAME, "webhook": WEBHOOK_TOKEN, "admin key": ADMIN_KEY},
            **{"wrong key": WRONG_KEY, "URL": URL_TOKEN, "user": USER_INFO},
            **{"start of image": encoded[:60], "middle of image": encoded[len(encoded) // 2 :][:60]},
            "internal error": FAULT_MESSAGE,
        }
        self.errors: list[httpx.Response] = []
        self.failures: list[str] = []

    def post(self, path: str, body: object = None, key: str = SECRET_ENVIRON["IGW_FLOW_KEY"], **options: Any) -> Any:
        """Sends a request. Returns the response's JSON."""
        headers = {"authorization": f"Bearer {key}", "prefer": "wait=5", **options.pop("headers", {})}
        answer = self.gateway.http.post(path, headers=headers, json=body, **options)
        if answer.is_error:
            self.errors.append(answer)
        return answer.json()

    def send_everything(self) -> None:
        for send in (
            self.send_successes,
            self.send_forms,
            self.send_responses,
            self.send_batches,
            self.send_invalid_requests,
            self.send_wrong_keys,
            self.send_wrong_urls,
            self.cause_seller_failures,
            self.cause_failed_responses,
            self.cause_failed_batch_lines,
            self.cause_crashes,
        ):
            send()
        self.collect_callback_signatures()
        wait_until(lambda: self.gateway.read_metric("igw_jobs_in_flight") <= 2, "only unanswered orders are in flight")

    def send_successes(self) -> None:
        webhook = f"https://example.com/hook?token={WEBHOOK_TOKEN}"
        for seller in SELLERS:
            body = {"prompt": PROMPT, "quality": "low", "provider": {"only": [seller]}, "webhook": webhook}
            job = self.post("/v1/jobs", body)
            assert job["status"] == "completed", job
            edit = {**body, "operation": "edit", "image": self.image_uri, "size": "1024x1024"}
            assert self.post("/v1/jobs", edit)["status"] == "completed"
            self.values[f"signature of {seller}"] = job["images"][0]["url"].rpartition("sig=")[2]
            self.gateway.http.get(job["images"][0]["url"])
        assert self.post("/v1/images/generations", {"prompt": PROMPT, "quality": "low"})["data"]
        self.post("/v1/quotes", {"prompt": PROMPT})
        created = self.post("/v1/admin/keys", {"team": "flow", "name": "made by a test"}, key=ADMIN_KEY)
        self.values["created key"] = created["key"].rpartition("_")[2]
        self.post("/v1/images/generations", {"prompt": PROMPT, "quality": "low", "n": 2}, key=created["key"])

    def send_forms(self) -> None:
        for image in (self.image, self.image[:200], b"no image"):
            form = make_form(
                make_part("prompt", PROMPT),
                make_part("quality", "low"),
                make_part("image", image, "Content-Type: image/png", filename=FILE_NAME),
            )
            self.post("/v1/images/edits", content=form, headers=FORM_HEADERS)
            self.post("/v1/images/edits", content=form[:-50], headers=FORM_HEADERS)

    def send_responses(self) -> None:
        image = {"type": "input_image", "image_url": self.image_uri}
        message = {"role": "user", "content": [{"type": "input_text", "text": PROMPT}, image]}
        body: dict[str, Any] = {"model": "gpt-5", "input": PROMPT, "tools": [{"type": "image_generation"}]}
        response = self.post("/v1/responses", body)
        assert response["status"] == "completed", response
        edit = {**body, "previous_response_id": response["id"]}
        assert self.post("/v1/responses", edit)["status"] == "completed"
        assert self.post("/v1/responses", {**body, "background": True})["id"]
        streamed = self.gateway.http.post("/v1/responses", json={**body, "stream": True}, headers=HEADERS)
        assert "response.completed" in streamed.text
        for fields in (
            {"input": [message]},
            {"input": [{**message, "role": PROMPT}]},
            {"input": {"prompt": PROMPT}},
            {"instructions": [PROMPT]},
        ):
            self.post("/v1/responses", {**body, **fields})

    def send_batches(self) -> None:
        """One batch succeeds, two have invalid lines, and a file has no purpose."""
        order = {"prompt": PROMPT, "quality": "low", "images": [{"image_url": self.image_uri}]}
        line = {"custom_id": PROMPT, "method": "POST", "url": "/v1/images/edits", "body": order}
        batches = []
        for lines in (line, {**line, "body": {**order, PROMPT: self.image_uri}}, {**line, PROMPT: PROMPT}):
            file = self.upload_file(json.dumps(lines).encode(), "batch")
            options = {"completion_window": "24h", "metadata": {"note": PROMPT}}
            body = {"input_file_id": file["id"], "endpoint": "/v1/images/edits", **options}
            batches.append(self.post("/v1/batches", body)["id"])
        self.upload_file(self.image, PROMPT)
        self.post("/v1/batches", {"input_file_id": PROMPT, "endpoint": PROMPT, "completion_window": PROMPT})

        def list_statuses() -> list[str]:
            answers = [self.gateway.http.get(f"/v1/batches/{batch}", headers=HEADERS).json() for batch in batches]
            return [answer["status"] for answer in answers]

        wait_until(lambda: list_statuses() == ["completed", "failed", "failed"], "the batches have ended")

    def upload_file(self, content: bytes, purpose: str) -> Any:
        form = make_form(
            make_part("purpose", purpose),
            make_part("file", content, "Content-Type: application/jsonl", filename=FILE_NAME),
        )
        return self.post("/v1/files", content=form, headers=FORM_HEADERS)

    def send_invalid_requests(self) -> None:
        invalid_fields: dict[str, object] = {
            "prompt": [PROMPT],
            "size": self.image_uri,
            "quality": {"prompt": PROMPT},
            "metadata": PROMPT,
            "image": f"https://{USER_INFO}@example.com/a.png?{URL_TOKEN}",
            "images": [self.image_uri, self.image_uri[:-40], f"https://nowhere.invalid/a.png?token={URL_TOKEN}"],
            "mask": f"data:image/png;base64,{PROMPT}",
            "webhook": f"https://{USER_INFO}@example.com/hook?token={WEBHOOK_TOKEN}",
        }
        for field, value in invalid_fields.items():
            body = {"prompt": PROMPT, "operation": "edit", "image": self.image_uri, field: value}
            self.post("/v1/jobs", body)
            self.post("/v1/images/edits", body)
            self.post("/v1/quotes", body)
        for text in (f'{{"prompt": "{PROMPT}', f'{{"prompt": "{PROMPT}", "prompt": "{PROMPT}"}}', f"prompt={PROMPT}"):
            for content_type in ("application/json", "text/plain", "multipart/form-data; boundary=x"):
                self.post("/v1/images/generations", content=text, headers={"content-type": content_type})

    def send_wrong_keys(self) -> None:
        for header in (WRONG_KEY, f"Bearer {WRONG_KEY}", f"Basic {WRONG_KEY}", f"Bearer igw_abcdefgh_{WRONG_KEY}"):
            self.post("/v1/jobs", {"prompt": PROMPT}, headers={"authorization": header})
            self.post("/v1/admin/keys", {"team": "flow"}, headers={"authorization": header})
        self.post("/v1/jobs", {"prompt": PROMPT}, headers={"authorization": "", "api-key": WRONG_KEY})
        self.post("/v1/admin/keys", {"team": "unknown", "name": PROMPT}, key=ADMIN_KEY)

    def send_wrong_urls(self) -> None:
        for path in (
            f"/files/00/{URL_TOKEN}?sig={URL_TOKEN}",
            f"/{URL_TOKEN}?key={WRONG_KEY}",
            f"/v1/jobs/{URL_TOKEN}",
        ):
            self.post(path, {"prompt": PROMPT})
            answer = self.gateway.http.get(path, headers={"authorization": f"Bearer {WRONG_KEY}"})
            self.errors.append(answer)
        self.post(f"/callbacks/runapi/job_{URL_TOKEN}/1/{URL_TOKEN}", {"prompt": PROMPT})

    def cause_seller_failures(self) -> None:
        for seller in (RUNFLOW_RUNS, RUNAPI, OPENAI):
            for fault in SELLER_FAULTS:
                self.sandbox.inject_fault(times=1, **fault)
                body = {"prompt": PROMPT, "quality": "low", "provider": {"only": [seller]}}
                self.post("/v1/images/generations", body, headers={"prefer": "wait=1"})
                self.sandbox.call_control_route("DELETE", "/faults")

    def cause_failed_responses(self) -> None:
        """Each fault fails one response that is waited for, one that is streamed and one in the background."""
        tools = [{"type": "image_generation", "quality": "low"}]
        body: dict[str, Any] = {"model": "gpt-5", "instructions": PROMPT, "tools": tools}
        for number, fault in enumerate(ORDER_FAULTS):
            for options in ({}, {"stream": True}, {"background": True}):
                self.sandbox.inject_fault(**fault)
                prompt = f"{PROMPT} {number} {options}"
                answer = self.gateway.http.post(
                    "/v1/responses", json={**body, **options, "input": prompt}, headers=HEADERS
                )
                is_background = "background" in options
                text = self.wait_for_end(f"/v1/responses/{answer.json()['id']}") if is_background else answer.text
                assert '"error":{' in text, text
                self.failures.append(text)
                self.sandbox.call_control_route("DELETE", "/faults")
        for options in ({}, {"stream": True}, {"background": True}):
            self.post("/v1/responses", {**body, **options, "input": f"{FAILING_PROMPT} {PROMPT}"})

    def wait_for_end(self, path: str) -> str:
        """Waits until the response or the batch has ended, and returns it."""

        def read() -> str:
            text = self.gateway.http.get(path, headers=HEADERS).text
            return text if json.loads(text)["status"] in ("failed", "completed") else ""

        return wait_until(read, f"{path} has ended")

    def cause_failed_batch_lines(self) -> None:
        """The custom ids contain nothing secret, because the error file repeats them."""
        for number, fault in enumerate(ORDER_FAULTS):
            self.sandbox.inject_fault(**fault)
            order = {"prompt": f"{PROMPT} {number}", "quality": "low"}
            line = {"custom_id": str(number), "method": "POST", "url": "/v1/images/generations", "body": order}
            file = self.upload_file(json.dumps(line).encode(), "batch")
            body = {"input_file_id": file["id"], "endpoint": line["url"], "completion_window": "24h"}
            batch = json.loads(self.wait_for_end(f"/v1/batches/{self.post('/v1/batches', body)['id']}"))
            self.sandbox.call_control_route("DELETE", "/faults")
            content = self.gateway.http.get(f"/v1/files/{batch['error_file_id']}/content", headers=HEADERS)
            self.failures.append(content.raise_for_status().text)

    def cause_crashes(self) -> None:
        for path in ("/v1/jobs", "/v1/images/generations"):
            self.post(path, {"prompt": f"{FAILING_PROMPT} {PROMPT}", "image": self.image_uri, "operation": "edit"})
            self.post(path, {"prompt": f"{FAILING_PROMPT} {PROMPT}"})

    def collect_callback_signatures(self) -> None:
        for vendor in ("runflow", "runapi"):
            bodies = " ".join(str(order["body"]) for order in self.sandbox.list_requests(vendor, "submit"))
            signatures = set(re.findall(r"/callbacks/[\w-]+/job_\w+/\d+/([\w-]+)", bodies))
            assert signatures
            self.values |= {f"callback of {vendor} {number}": text for number, text in enumerate(signatures)}

    def find_in(self, text: str) -> list[str]:
        """Returns the names of the canaries in a text."""
        return [name for name, value in self.values.items() if value in text]


def make_canary_image() -> bytes:
    out, info = io.BytesIO(), PngInfo()
    info.add_text("Comment", PROMPT)
    Image.effect_noise((64, 64), 80).resize((1024, 1024)).convert("RGB").save(out, "PNG", pnginfo=info)
    return out.getvalue()


@pytest.fixture
def sent_canaries(gateway_and_store: GatewayAndStore, sandbox: RunningSandbox) -> tuple[Canaries, RawStore]:
    gateway, raw_store = gateway_and_store
    canaries = Canaries(gateway, sandbox)
    canaries.send_everything()
    return canaries, raw_store


def read_key_names(raw_store: RawStore) -> Sequence[str]:
    """Returns the keys of Redis, or the values of all columns of SQLite that are in a primary key or an index."""
    if isinstance(raw_store, RawRedis):
        return [str(key) for key in raw_store.client.keys("*")]
    assert isinstance(raw_store, RawSqlite)
    query = raw_store.connection.execute
    tables = [name for (name,) in query("SELECT name FROM sqlite_master WHERE type = 'table'")]
    names: list[str] = []
    for table in tables:
        columns = {name for _, name, *_, rank in query(f"PRAGMA table_info({table})") if rank}
        for _, index, *_ in query(f"PRAGMA index_list({table})").fetchall():
            columns |= {name for *_, name in query(f"PRAGMA index_info({index})") if name}
        for column in columns:
            names += [str(value) for (value,) in query(f'SELECT "{column}" FROM {table}')]  # noqa: S608
    return names


def test_canaries_are_in_no_log_metric_error_key_or_object_name(sent_canaries: tuple[Canaries, RawStore]) -> None:
    """One test for all places, because the canaries are sent once."""
    canaries, raw_store = sent_canaries
    gateway = canaries.gateway
    places: dict[str, Callable[[], str]] = {
        "stdout": lambda: gateway.stdout,
        "stderr": lambda: gateway.stderr,
        "metrics": lambda: gateway.get("/metrics").text,
        "readiness": lambda: gateway.get("/readyz").text,
        "store keys": lambda: "\n".join(read_key_names(raw_store)),
        "object names": lambda: "\n".join(str(path) for path in gateway.folder.parent.rglob("*")),
        "errors": lambda: "\n".join(f"{answer.headers} {answer.text}" for answer in canaries.errors),
        "failures": lambda: "\n".join(canaries.failures),
    }
    texts = {name: read() for name, read in places.items()}
    assert {name: found for name, text in texts.items() if (found := canaries.find_in(text))} == {}
    assert all(texts.values())
    assert SELLER_TEXT not in texts["errors"] + texts["failures"], (
        "operators see the text of a seller in the log, callers do not"
    )
    codes = {answer.json()["error"]["code"] for answer in canaries.errors}
    assert codes >= EXPECTED_CODES, codes
    assert "debug" in {line["level"] for line in gateway.read_log_lines()}
    assert PROMPT in str(raw_store.dump_everything()), "the search finds the prompt where it belongs"
