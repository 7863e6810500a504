"""Complaints of users of other gateways, in the themes A to L: each theme has a test here.

`OTHER_PROOFS` names, for each theme, further promises and the tests in other files that prove them.
"""

import json
from base64 import b64decode, b64encode
from typing import Any

import httpx
import pytest

from tests.flow.flow_config import (
    API_KEY,
    BACKUP_BY_SELLER,
    EACH_SELLER,
    ONE_CENT_BUDGET_KEY,
    OPENAI,
    ROOT,
    VENDOR_BY_SELLER,
)
from tests.flow.order_flow import PROMPT, OrderFlow
from tests.harness.form_bodies import FORM_HEADERS, make_form, make_part
from tests.harness.sample_images import make_image
from tests.harness.wait import wait_until

AUTHORIZATION = {"authorization": f"Bearer {API_KEY}"}
IMAGE = make_image(1024, 1024)
MASK = make_image(1024, 1024, mode="RGBA")


def make_body(seller: str, **params: Any) -> dict[str, Any]:
    return {"prompt": PROMPT, "quality": "low", "provider": {"only": [seller]}, **params}


def list_images(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


@EACH_SELLER
def test_theme_a_price_follows_quality_and_size(flow: OrderFlow, seller: str) -> None:
    """Sizes may be `auto`, omitted or unusual, and images several; a failed order costs nothing."""
    for params in (
        *({}, {"quality": None}, {"quality": "auto", "size": "auto"}, {"quality": "high"}, {"size": "1280x720"}),
        *(
            {"size": "3840x2160"},
            {"resolution": "2K", "aspect_ratio": "3:2"},
            {"n": 2},
        ),
    ):
        before = sum(line["usd_micros"] for line in flow.sandbox.list_charges())
        job = flow.order_images(seller, **params)
        charged = sum(line["usd_micros"] for line in flow.sandbox.list_charges()) - before
        held = sum(entry.amount for entry in flow.read_ledger_entries() if entry.job == job["id"])
        assert held == charged > 0, params
    flow.sandbox.inject_fault("refuse", vendor=VENDOR_BY_SELLER[seller], times=1)
    assert flow.order_images(seller)["usage"]["cost"] == 0


@EACH_SELLER
def test_theme_b_long_generation_outlives_its_client(flow: OrderFlow, seller: str) -> None:
    """A job is accepted at once. A client that timed out, or closed its page, fetches its image later.

    Nothing is ordered twice.
    """
    flow.sandbox.hold_orders(vendor=VENDOR_BY_SELLER[seller])
    accepted = flow.gateway.post_job(make_body(seller), prefer="respond-async")
    assert (accepted.status_code, accepted.headers["cache-control"]) == (202, "no-store")
    assert int(accepted.headers["retry-after"]) >= 1
    body, headers = (
        make_body(seller, prompt=f"{PROMPT}, again"),
        {**AUTHORIZATION, "idempotency-key": flow.gateway.test_id},
    )
    with httpx.Client(base_url=flow.gateway.url, trust_env=False, timeout=0.5) as impatient:
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                impatient.post("/v1/images/generations", json=flow.gateway.add_test_id(body), headers=headers)
    wait_until(lambda: flow.count_orders(seller) == 2, "both are ordered")
    flow.sandbox.release_orders(vendor=VENDOR_BY_SELLER[seller])
    job = flow.gateway.http.get(accepted.headers["location"], params={"wait": 30}, headers=AUTHORIZATION).json()
    assert job["status"] == "completed"
    answer = flow.gateway.post_generation(body, idempotency_key=flow.gateway.test_id)
    assert (len(list_images(answer)), answer.headers["idempotent-replayed"]) == (1, "true")
    assert flow.count_orders(seller) == 2


def test_theme_c_edits_arrive_as_edits(flow: OrderFlow) -> None:
    """An edit may be a form or JSON, with images and a mask.

    A failover remains an edit. A missing image is a final 400.
    """
    parts = [make_part("prompt", PROMPT), make_part("quality", "low"), make_part("size", "1024x1024")]
    image = make_part("image[]", IMAGE, "Content-Type: application/octet-stream", filename="blob")
    form = make_form(*parts, make_part("provider[only][]", OPENAI), image, image, make_part("mask", MASK, filename="m"))
    list_images(flow.gateway.http.post("/v1/images/edits", content=form, headers=AUTHORIZATION | FORM_HEADERS))
    order = flow.sandbox.list_requests("openai", "submit")[-1]
    assert order["path"].endswith("/images/edits")
    assert order["body"].count('name="image[]"') == 2
    assert 'name="mask"' in order["body"]
    uri = f"data:image/png;base64,{b64encode(IMAGE).decode()}"
    for field in ({"image": uri}, {"images": [{"image_url": uri}]}, {"image": [uri, uri]}):
        flow.sandbox.inject_fault("refuse", vendor="openai", times=1)
        body = {"prompt": PROMPT, "quality": "low", "policy": f"failover-{OPENAI}", "size": "1024x1024", **field}
        list_images(
            flow.gateway.http.post("/v1/images/edits", json=flow.gateway.add_test_id(body), headers=AUTHORIZATION)
        )
        backup = json.loads(
            flow.sandbox.list_requests(VENDOR_BY_SELLER[BACKUP_BY_SELLER[OPENAI]], "submit")[-1]["body"]
        )
        assert backup.get("source_image_urls") or backup.get("input", backup)["source_image_urls"]
    refused = flow.gateway.http.post(
        "/v1/images/edits", content=make_form(*parts), headers=AUTHORIZATION | FORM_HEADERS
    )
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "image")
    assert refused.headers["x-should-retry"] == "false"


@EACH_SELLER
def test_theme_d_nothing_is_bought_twice(flow: OrderFlow, seller: str) -> None:
    """Another seller gets the order only if no image can exist. If a download fails, it is repeated, not the order.

    An order that succeeds without images is a failure.
    """
    vendor, backup = VENDOR_BY_SELLER[seller], BACKUP_BY_SELLER[seller]
    flow.sandbox.inject_fault("refuse", vendor=vendor, times=1)
    assert [image["seller"] for image in flow.order_with_failover(seller)["images"]] == [backup]
    orders = flow.count_orders(backup)
    flow.sandbox.inject_fault("status", vendor=vendor, route="download", status=503, times=2)
    job = flow.order_with_failover(seller, prompt=f"{PROMPT}, downloaded")
    assert ([image["seller"] for image in job["images"]], len(job["attempts"])) == ([seller], 1)
    assert flow.count_orders(backup) == orders
    flow.sandbox.call_control_route("DELETE", "/faults")
    flow.sandbox.inject_fault("empty_outputs", vendor=vendor, times=1)
    job = flow.order_images(seller, prompt=f"{PROMPT}, empty")
    assert (job["status"], job["images"]) == ("failed", [])


@EACH_SELLER
def test_theme_e_downgrades_are_found(flow: OrderFlow, seller: str) -> None:
    """A smaller image is reported with its real size and a warning, and a missing one is ordered elsewhere."""
    flow.sandbox.inject_fault("half_size", vendor=VENDOR_BY_SELLER[seller], times=1)
    job = flow.order_images(seller, size="2048x2048")
    assert (job["images"][0]["size"], flow.fetch_images(job)[0].size) == ("1024x1024", (1024, 1024))
    assert any("1024x1024" in warning for warning in job["warnings"])
    flow.sandbox.inject_fault("partial", vendor=VENDOR_BY_SELLER[seller], missing=1, times=1)
    job = flow.order_with_failover(seller, n=2)
    assert (job["status"], len(flow.fetch_images(job))) == ("completed", 2)


def test_theme_f_parameters_are_applied_warned_or_refused_by_name(flow: OrderFlow) -> None:
    """No parameter is dropped in silence, null counts as omitted, and no seller gets `response_format`."""
    for response_format in (None, "b64_json", "url"):
        params = {"response_format": response_format, "user": None, "background": None, "output_compression": None}
        answer = flow.gateway.post_generation(make_body(OPENAI, style="vivid", seed=0, quality="standard", **params))
        list_images(answer)
        assert "style" in " ".join(answer.json()["warnings"])
        assert "style" in answer.headers["x-igw-warnings"]
        order = json.loads(flow.sandbox.list_requests("openai", "submit")[-1]["body"])
        assert not order.keys() & {"response_format", "style", "seed", "user"}
        assert order["quality"] == "medium"
    for name, value in {
        "output_format": "gif",
        "steps": 30,
        "seed": 7,
        "size": "17x17",
        "quality": "best",
        "n": 0,
    }.items():
        refused = flow.gateway.post_generation(make_body(OPENAI, **{name: value}))
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, name), refused.text


def test_theme_g_images_are_not_kept_in_the_store(flow: OrderFlow) -> None:
    """Delivered images and input images are in the image storage; the store has only their keys."""
    uri = f"data:image/png;base64,{b64encode(IMAGE).decode()}"
    body = make_body(OPENAI, image=uri, size="1024x1024")
    answer = flow.gateway.http.post("/v1/images/edits", json=flow.gateway.add_test_id(body), headers=AUTHORIZATION)
    [image] = list_images(answer)
    stored = flow.dump_store()
    for encoded in (image["b64_json"], uri):
        middle = len(encoded) // 2
        assert encoded[middle : middle + 60] not in stored
    assert repr(b64decode(image["b64_json"])[2_000:2_040])[2:-1] not in stored


@EACH_SELLER
def test_theme_h_url_on_request(flow: OrderFlow, seller: str) -> None:
    """The URL is the gateway's own, needs no API key, and leads to the image."""
    [image] = list_images(flow.gateway.post_generation(make_body(seller, response_format="url")))
    assert image["url"].startswith(f"{flow.gateway.url}/files/")
    assert flow.fetch_image(image["url"]).size == (1024, 1024)


@EACH_SELLER
def test_theme_i_what_is_delivered_is_paid_and_nothing_else(flow: OrderFlow, seller: str) -> None:
    """A failed job is not charged and releases its hold. If the client has left, its image is delivered and charged."""
    flow.sandbox.inject_fault("refuse", vendor=VENDOR_BY_SELLER[seller], times=1)
    failed = flow.order_images(seller)
    assert failed["status"] == "failed"
    assert failed["usage"]["cost"] == 0, failed
    assert flow.sum_ledger_by_line() == {}
    flow.sandbox.hold_orders(vendor=VENDOR_BY_SELLER[seller])
    body = flow.gateway.add_test_id(make_body(seller, prompt=f"{PROMPT}, left alone"))
    with httpx.Client(base_url=flow.gateway.url, trust_env=False, timeout=0.5) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/jobs", json=body, headers={**AUTHORIZATION, "prefer": "wait=30"})
    wait_until(lambda: flow.count_orders(seller) == 2, "the order is sent")
    flow.sandbox.release_orders(vendor=VENDOR_BY_SELLER[seller])
    flow.gateway.wait_until_idle()
    listed = flow.gateway.http.get("/v1/jobs", params={"limit": 1}, headers=AUTHORIZATION).json()["data"]
    job = flow.gateway.get_job(listed[0]["id"])
    assert (job["status"], len(flow.fetch_images(job))) == ("completed", 1)
    assert sum(flow.sum_ledger_by_line().values()) == round(job["usage"]["cost"] * 1_000_000) > 0


def test_theme_j_mistakes_of_callers_pause_no_seller(flow: OrderFlow) -> None:
    """Six orders that a seller refuses as invalid or for their content do not pause it. Health checks order nothing."""
    for fault in ("refuse", "refuse_content"):
        flow.sandbox.inject_fault(fault, vendor="openai", times=6)
        for number in range(6):
            assert flow.order_images(OPENAI, prompt=f"{PROMPT} {fault} {number}")["status"] == "failed"
    assert flow.gateway.has_only_healthy_sellers([OPENAI])
    orders = flow.count_orders(OPENAI)
    for path in ("/livez", "/readyz", "/metrics", "/v1/models"):
        assert flow.gateway.http.get(path, headers=AUTHORIZATION).status_code == 200
    assert flow.count_orders(OPENAI) == orders
    assert flow.order_images(OPENAI)["status"] == "completed"


@EACH_SELLER
def test_theme_k_streams_have_partial_events_or_a_warning(flow: OrderFlow, seller: str) -> None:
    """`partial_images` is accepted at every seller. The completed event has the image and its usage."""
    answer = flow.gateway.post_generation(make_body(seller, stream=True, partial_images=2))
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "image_generation.completed"
    assert events[-1]["b64_json"]
    assert events[-1]["usage"]["cost"] > 0
    has_partial_events = any(event["type"] == "image_generation.partial_image" for event in events)
    assert has_partial_events or "partial_images" in answer.headers["x-igw-warnings"]


def test_theme_l_budgets_hold_on_every_route(flow: OrderFlow) -> None:
    """No route for images gets around the budget of a team."""
    body = {"prompt": PROMPT, "quality": "high", "n": 3}
    edit = {**body, "image": f"data:image/png;base64,{b64encode(IMAGE).decode()}"}
    tool = {"type": "image_generation", "quality": "high"}
    for path, content in {
        "/v1/images/generations": body,
        "/images/generations": {**body, "stream": True},
        "/openai/deployments/gpt-image-2/images/generations": body,
        "/v1/images/edits": edit,
        "/v1/jobs": body,
        "/v1/responses": {"model": "gpt-image-2", "input": PROMPT, "tools": [tool]},
    }.items():
        answer = flow.gateway.http.post(path, json=content, headers={"authorization": f"Bearer {ONE_CENT_BUDGET_KEY}"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota"), path
        assert answer.headers["x-should-retry"] == "false"
    assert flow.read_ledger_entries() == flow.sandbox.list_charges() == []


OTHER_PROOFS = {
    "A": {
        "each quality, size and tier has its price": (
            "flow/test_successful_orders.py::test_every_quality_costs_its_price",
            "unit/routing/test_price_examples.py::test_every_documented_price_is_in_its_cells",
        ),
        "tokens of text, input and output images have their own prices": (
            "flow/test_usage.py::test_usage_of_an_edit_includes_input_image_tokens",
            "unit/routing/test_quote.py::test_input_tokens_are_priced_once_per_order",
            "clients/test_openai_sdk.py::test_each_model_is_charged_at_its_own_prices",
        ),
        "each account has its own price": (
            "flow/test_successful_orders.py::test_cheapest_seller_depends_on_quality_and_size",
        ),
    },
    "B": {
        "streams of a job have heartbeats and can be resumed": (
            "flow/test_job_events.py::test_reconnected_listener_misses_and_repeats_nothing",
            "api/test_image_event_stream.py::test_running_job_sends_heartbeats_until_its_images",
        ),
        "jobs can be cancelled": (
            "flow/test_job_cancellation.py::test_running_order_is_delivered_and_charged_and_the_others_are_dropped",
        ),
        "retries of SDKs attach to the running job": (
            "flow/test_client_retries.py::test_sdk_retry_attaches_to_the_running_job",
        ),
    },
    "C": {
        "every way in which SDKs send files is accepted": (
            "clients/test_gateway_edits.py::test_every_way_to_pass_files_is_accepted",
            "api/test_edits.py::test_images_by_url_data_uri_and_file_are_accepted_in_one_form",
        ),
        "size of edits is kept": ("clients/test_gateway_edits.py::test_edit_of_one_image_keeps_its_ratio",),
        "invalid masks are refused": (
            "api/test_input_image_checks.py::test_mask_of_another_size_is_rejected_before_any_order",
        ),
        "variations are refused, not replaced by something else": (
            "api/test_edits.py::test_variations_are_answered_as_retired",
        ),
    },
    "D": {
        "unknown outcomes are not ordered elsewhere": (
            "api/test_images.py::test_lost_response_is_not_reordered_and_is_final",
            "flow/test_order_faults.py::test_order_fault_has_the_outcome_in_the_table",
        ),
        "clients with retries buy once": (
            "flow/test_retrying_clients.py::test_final_response_makes_no_client_order_twice",
            "flow/test_client_retries.py::test_concurrent_requests_with_one_key_create_one_job",
        ),
        "crashes buy nothing twice": ("chaos/test_crashes.py::test_hundred_jobs_survive_thirty_kills",),
    },
    "E": {
        "sellers that downgrade lose orders": (
            "flow/test_circuit_breaker.py::test_seller_of_too_small_images_loses_orders_until_it_delivers_correctly",
            "unit/health/test_fidelity_breaker.py::test_exact_policy_excludes_unfaithful_cell",
        ),
        "assumed values cause a warning": (
            "api/test_images.py::test_quality_that_cannot_be_selected_causes_a_warning",
        ),
    },
    "F": {
        "each parameter of OpenAI is known": (
            "clients/test_client_contracts.py::test_every_parameter_of_openai_is_accepted",
            "unit/api/test_parameter_table.py::test_every_field_has_a_row_and_every_parameter_of_openai_too",
        ),
    },
    "G": {
        "large images stream under a memory budget": (
            "api/test_large_images.py::test_slow_clients_hold_little_memory",
            "api/test_timeouts.py::test_large_responses_beyond_the_memory_budget_are_503",
        ),
    },
    "H": {
        "URLs are signed, expire, and support ranges": (
            "api/test_image_files.py::test_signed_url_is_rejected_after_its_expiry",
            "flow/test_job_images.py::test_range_has_its_bytes",
        ),
    },
    "I": {
        "images that arrive late or cannot be stored are booked": (
            "flow/test_undelivered_images.py::test_images_lost_from_an_order_are_booked_as_orphans",
            "flow/test_deadlines.py::test_images_after_the_deadline_are_booked_as_orphans",
        ),
        "failed jobs release their budget": ("flow/test_client_retries.py::test_failed_job_releases_its_budget_hold",),
    },
    "J": {
        "a second pause extends the first": (
            "unit/health/test_circuit_breaker.py::test_second_rate_limit_extends_but_never_shortens_backoff",
        ),
        "all replicas pause a seller, for its remaining time": (
            "flow/test_shared_health.py::test_account_that_forbids_orders_is_avoided_by_all_replicas",
            "unit/health/test_health_snapshots.py::test_old_snapshot_counts_from_when_it_was_made",
        ),
        "a seller that failed in a failover is paused, too": (
            "flow/test_circuit_breaker.py::test_five_consecutive_failures_open_the_breaker_of_that_cell_only",
        ),
    },
    "K": {
        "OpenAI's SDKs read the streams": (
            "clients/test_gateway_streams.py::test_streamed_generation_yields_one_completed_event",
            "clients/test_client_contracts.py::test_streamed_generation_has_an_event_for_each_image",
        ),
    },
    "L": {
        "concurrent requests cannot exceed a budget": (
            "flow/test_budgets.py::test_requests_are_accepted_while_their_maximum_cost_fits_the_budget",
        ),
    },
}


@pytest.mark.parametrize("theme", OTHER_PROOFS)
def test_theme_has_its_tests(theme: str) -> None:
    """The test of the theme is here, and those that are named elsewhere exist."""
    assert any(name.startswith(f"test_theme_{theme.lower()}_") for name in globals())
    for proofs in OTHER_PROOFS[theme].values():
        for proof in proofs:
            path, _, name = proof.partition("::")
            assert f"def {name}(" in (ROOT / "tests" / path).read_text(), proof
