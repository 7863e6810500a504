"""Runflow's money and its disputed points."""

import pytest

from tests.sandbox.runflow_owner import Owner, order
from tests.vendors import Vendors


def test_the_balance_pays_for_success_only(sandbox: Vendors, owner: Owner) -> None:
    sandbox.balance("runflow", "0.02")
    sandbox.fault("fail", vendor="runflow", times=1)
    assert owner.run()["status_code"] == "failed"
    assert owner.run()["cost"] == "0.009"
    assert owner.run()["cost"] == "0.009"
    refused = owner.create()
    assert (refused.status_code, refused.json()["code"]) == (402, "INSUFFICIENT_CREDIT")
    assert owner.ask("GET", "/v1/billing/balance").json()["balance"] == "0.002"
    assert owner.ask("GET", "/v1/credit-balances").json()["items"][0]["balance_usd"] == "0.002"


PRICES = {
    ("by_quality", "low"): ("0.009", "0.009"),
    ("by_quality", "medium"): ("0.034", "0.034"),
    ("by_quality", "high"): ("0.133", "0.133"),
    ("flat", "low"): ("0.133", "0.133"),
    ("headline", "low"): ("0.211", "0.219"),
}


@pytest.mark.parametrize(("profile", "quality"), PRICES)
def test_each_published_price_can_be_charged(sandbox: Vendors, owner: Owner, profile: str, quality: str) -> None:
    urls = [f"{sandbox.url}/_/sample.png"]
    with sandbox.switched("runflow", price=profile):
        generated = owner.run(order(quality=quality))["cost"]
        edited = owner.run(order(quality=quality, image_urls=urls), edit=True)["cost"]
    assert (generated, edited) == PRICES[profile, quality]


def test_each_switch_changes_its_point(sandbox: Vendors, owner: Owner) -> None:
    with sandbox.switched("runflow", num_images_max=10):
        assert owner.create(order(num_images=10)).status_code == 201
    with sandbox.switched("runflow", sizes_in_output=True):
        entry = owner.run(order(image_size="square_hd"))["output"]["outputs"][0]
        assert (entry["width"], entry["height"]) == (1024, 1024)
    with sandbox.switched("runflow", bad_input="failed_run"):
        assert owner.run(order(quality="bad"))["failure_code"] == "INPUT_VALIDATION_FAILED"
    with sandbox.switched("runflow", canceled="cancelled"):
        words = owner.ask("GET", "/v1/runs/statuses").json()["items"]
        assert {"code": "cancelled"} in words
    with sandbox.switched("runflow", providerless_route=True):
        assert owner.ask("POST", "/v1/models/gpt-image-2/runs", order()).status_code == 201
    with sandbox.switched("runflow", run_route=False):
        assert owner.ask("POST", "/v1/run/openai/gpt-image-2", {"prompt": "x"}).status_code == 404
    with sandbox.switched("runflow", balance_body="balance_cents"):
        assert set(owner.ask("GET", "/v1/billing/balance").json()) == {"balance_cents", "currency"}
    with sandbox.switched("runflow", cursors="next_pq"):
        assert set(owner.ask("GET", "/v1/runs").json()) == {"items", "next_pq", "prev_pq"}
    with sandbox.switched("runflow", rate_limit_headers=True):
        assert "x-ratelimit-remaining" in owner.ask("GET", "/v1/auth/me").headers
    assert "x-ratelimit-remaining" not in owner.ask("GET", "/v1/auth/me").headers


@pytest.mark.parametrize(
    ("style", "body"), [("nested", {"error"}), ("detail", {"detail"}), ("flat", {"code", "message", "errors"})]
)
def test_errors_come_in_every_shape_that_was_seen(sandbox: Vendors, owner: Owner, style: str, body: set[str]) -> None:
    with sandbox.switched("runflow", error_body=style):
        assert set(owner.create(order(quality="bad")).json()) == body


def test_the_other_spelling_of_no_credit(sandbox: Vendors, owner: Owner) -> None:
    sandbox.balance("runflow", "0")
    with sandbox.switched("runflow", no_credit_code="INSUFFICIENT_CREDITS"):
        assert owner.create().json()["code"] == "INSUFFICIENT_CREDITS"


def test_part_of_the_pictures_may_count_as_plain_success(sandbox: Vendors, owner: Owner) -> None:
    sandbox.fault("partial", vendor="runflow")
    with sandbox.switched("runflow", partial_status="succeeded"):
        assert owner.run(order(num_images=2))["status_code"] == "succeeded"


def test_inline_output_is_shown_once_and_then_gone(owner: Owner) -> None:
    run = owner.run(order(sync_mode=True))
    assert run["output"]["outputs"][0]["url"].startswith("data:image/png;base64,")
    assert owner.get(run["id"])["output"] is None
