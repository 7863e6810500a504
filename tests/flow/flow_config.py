"""A configuration whose sellers are those of the sandbox, with low expected latency, and OpenAI beside them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from gateway.timeouts_and_intervals import Timing
from sandbox.runapi.callbacks import CALLBACK_SECRET
from tests.harness.child_spec import Hook
from tests.harness.gateway_process import StartMethod
from tests.harness.timings import FAST_TIMINGS
from tests.harness.webhook_receiver import WEBHOOK_SECRET

ROOT = Path(__file__).parent.parent.parent
RUNFLOW_RUNS, RUNFLOW_RUN, RUNAPI, OPENAI = SELLERS = ("runflow-runs", "runflow-run", "runapi", "openai")
EACH_SELLER = pytest.mark.parametrize("seller", SELLERS)
VENDOR_BY_SELLER = {"runflow-runs": "runflow", "runflow-run": "runflow", "runapi": "runapi", "openai": "openai"}
# The next seller after a failure. It belongs to another vendor, which has its own invoice.
BACKUP_BY_SELLER = {"runflow-runs": "runapi", "runflow-run": "runapi", "runapi": "runflow-runs", "openai": "runapi"}
# For one image of 1024x1024 and low quality with `PROMPT`.
PRICE_MICROS = {"runflow-runs": 9_000, "runflow-run": 9_000, "runapi": 60_000, "openai": 5_875}
SECONDS_PATTERN = re.compile(r"seconds:.*\n( {6}\w+: \{p50.*\n)*")
FAST_LATENCY = {"any": {"p50": 0.05, "p90": 0.2}}
# This model has a long expected latency: without a callback its orders are first polled after four minutes, and every
# half minute from then on. No test waits that long.
SLOW_MODEL, SLOW_LATENCY = "slow-model", {"any": {"p50": 300, "p90": 600}}
# This model is sold at a URL without a server, and at a higher price by OpenAI.
UNREACHABLE_MODEL, UNREACHABLE_SELLER, UNREACHABLE_URL = "partly-unreachable-model", "unreachable", "http://127.0.0.1:1"
API_KEY, ONE_CENT_BUDGET_KEY, OTHER_TEAM_KEY = "igw_flow", "igw_one_cent", "igw_other_team"
# Keys of teams with a daily budget. Only one test orders for each of them, since it spends the budget of that day.
TEN_CENT_BUDGET_KEY, FORTY_CENT_BUDGET_KEY = "igw_ten_cent", "igw_forty_cent"
QUOTED_BUDGET_KEY, BATCH_BUDGET_KEY = "igw_quoted_budget", "igw_batch_budget"
# The charge for the output tokens of one 1024x1024 image. With the prompt's tokens it equals the sandbox's charge, so
# that an order without a response is booked at the exact amount. For other sizes these prices are estimates.
OPENAI_PRICES = {"low": "0.00585", "medium": "0.05268", "high": "0.21072"}
SECRET_ENVIRON = {
    "IGW_FLOW_RUNFLOW": "rf_sandbox",
    "IGW_FLOW_RUNAPI": "sk-sandbox",
    "IGW_FLOW_RUNAPI_CALLBACKS": CALLBACK_SECRET,
    "IGW_FLOW_OPENAI": "sk-sandbox",
    "IGW_FLOW_KEY": API_KEY,
    "IGW_FLOW_ONE_CENT_KEY": ONE_CENT_BUDGET_KEY,
    "IGW_FLOW_OTHER_TEAM_KEY": OTHER_TEAM_KEY,
    "IGW_FLOW_TEN_CENT_KEY": TEN_CENT_BUDGET_KEY,
    "IGW_FLOW_FORTY_CENT_KEY": FORTY_CENT_BUDGET_KEY,
    "IGW_FLOW_QUOTED_BUDGET_KEY": QUOTED_BUDGET_KEY,
    "IGW_FLOW_BATCH_BUDGET_KEY": BATCH_BUDGET_KEY,
    "IGW_FLOW_WEBHOOK_SECRET": WEBHOOK_SECRET,
}


class GatewaySetup(Struct, frozen=True, kw_only=True):
    """One test module's changes: times, limits and regions of accounts and of the team `flow`, its webhooks and
    retention, further policies, jobs' settings, retention, routing and moderation hooks of `gateway.yaml`, and options
    of `other-team`."""

    timing: Timing = FAST_TIMINGS
    account_limits: dict[str, dict[str, int]] = {}
    team_limits: dict[str, int] = {}
    account_regions: dict[str, str] = {}
    team_regions: tuple[str, ...] = ()
    webhooks: dict[str, Any] = {}
    policies: dict[str, Any] = {}
    job_settings: dict[str, float] = {}
    retention: dict[str, float] = {}
    team_retention: dict[str, float] = {}
    routing: dict[str, bool] = {}
    moderation: dict[str, Any] = {}
    other_team: dict[str, Any] = {}
    hooks: tuple[Hook, ...] = ()
    environ: dict[str, str] = {}
    start_method: StartMethod = "fork"


def write_config(folder: Path, sandbox_url: str, callback_secret_path: Path, setup: GatewaySetup) -> None:
    """`callback_secret_path`: the file for Runflow's callback secret. It may be written later."""
    (folder / "offers").mkdir(parents=True)
    for seller in SELLERS[:3]:
        offer_text = (ROOT / "tests" / "config" / "offers" / f"{seller}.yaml").read_text()
        account_block, offer_block = re.split(r"^  gpt-image-2:$", offer_text, flags=re.MULTILINE)
        fast_offer, slow_offer = (_replace_seconds(seconds, offer_block) for seconds in (FAST_LATENCY, SLOW_LATENCY))
        offers = f"{account_block}  gpt-image-2:{fast_offer}\n  {SLOW_MODEL}:{slow_offer}"
        (folder / "offers" / f"{seller}.yaml").write_text(offers)
    _write_json(
        folder / "offers" / "openai.yaml",
        OPENAI_OFFERS | {"offers": {**OPENAI_OFFERS["offers"], **_build_unreachable_offer(OPENAI_PRICES)}},
    )
    cheaper_prices = dict.fromkeys(OPENAI_PRICES, "0.001")
    _write_json(
        folder / "offers" / f"{UNREACHABLE_SELLER}.yaml",
        OPENAI_OFFERS | {"account": UNREACHABLE_SELLER, "offers": _build_unreachable_offer(cheaper_prices)},
    )
    _write_json(folder / "models.yaml", {"models": {"gpt-image-2": {}, SLOW_MODEL: {}, UNREACHABLE_MODEL: {}}})
    accounts = _build_accounts(sandbox_url, callback_secret_path)
    for name, limits in setup.account_limits.items():
        accounts[name]["limits"] = limits
    for name, region in setup.account_regions.items():
        accounts[name]["region"] = region
    _write_json(folder / "accounts.yaml", {"accounts": accounts})
    _write_json(folder / "policies.yaml", {"policies": _build_policies() | setup.policies, "default": "cheapest"})
    _write_json(folder / "teams.yaml", {"teams": _build_teams(setup)})
    _write_json(
        folder / "gateway.yaml",
        {
            "reload": {"watch": False},
            "jobs": setup.job_settings,
            "retention": setup.retention,
            "routing": setup.routing,
            "moderate": setup.moderation,
        },
    )


def _replace_seconds(seconds: object, offer: str) -> str:
    replaced, count = SECONDS_PATTERN.subn(f"seconds: {json.dumps(seconds)}\n", offer)
    assert count == 1, "the offer has no `seconds` in the expected format"
    return replaced


def _write_json(path: Path, content: object) -> None:
    """Writes JSON, which is also YAML."""
    path.write_text(json.dumps(content, indent=2))


def _build_accounts(sandbox_url: str, callback_secret_path: Path) -> dict[str, Any]:
    return {
        "runflow": {
            "base_url": f"{sandbox_url}/runflow",
            "key": "env:IGW_FLOW_RUNFLOW",
            "callback_secrets": [f"file:{callback_secret_path}"],
            "private": True,
        },
        "runapi": {
            "base_url": f"{sandbox_url}/runapi",
            "key": "env:IGW_FLOW_RUNAPI",
            "callback_secrets": ["env:IGW_FLOW_RUNAPI_CALLBACKS"],
            "replay": "trusted",
            "private": True,
        },
        "openai": {"base_url": f"{sandbox_url}/openai/v1", "key": "env:IGW_FLOW_OPENAI", "private": True},
        UNREACHABLE_SELLER: {"base_url": UNREACHABLE_URL, "key": "env:IGW_FLOW_OPENAI", "private": True},
    }


def _build_policies() -> dict[str, Any]:
    """For each seller, two policies with a backup seller. The second reorders even after an unknown outcome."""
    policies: dict[str, Any] = {"cheapest": {"rank": "cost"}}
    for seller in SELLERS:
        ranking = {"rank": "listed", "sellers": [seller, BACKUP_BY_SELLER[seller]]}
        policies[f"failover-{seller}"] = ranking
        policies[f"reorder-{seller}"] = ranking | {"failover": {"on_unknown": "reorder"}}
    return policies


def _build_teams(setup: GatewaySetup) -> dict[str, Any]:
    policies = list(_build_policies())
    return {
        "flow": {
            "keys": ["env:IGW_FLOW_KEY"],
            "policies": [*policies, *setup.policies],
            "limits": setup.team_limits,
            **({"regions": setup.team_regions} if setup.team_regions else {}),
            "retention": setup.team_retention,
            "webhooks": {"secrets": ["env:IGW_FLOW_WEBHOOK_SECRET"], **setup.webhooks},
        },
        "one-cent": {"keys": ["env:IGW_FLOW_ONE_CENT_KEY"], "policies": policies, "budget": {"day": "0.01"}},
        "ten-cent": {"keys": ["env:IGW_FLOW_TEN_CENT_KEY"], "budget": {"day": "0.10"}},
        "forty-cent": {"keys": ["env:IGW_FLOW_FORTY_CENT_KEY"], "budget": {"day": "0.40"}},
        "quoted-budget": {"keys": ["env:IGW_FLOW_QUOTED_BUDGET_KEY"], "budget": {"day": "0.40"}},
        "batch-budget": {"keys": ["env:IGW_FLOW_BATCH_BUDGET_KEY"], "budget": {"day": "0.10"}},
        "other-team": {"keys": ["env:IGW_FLOW_OTHER_TEAM_KEY"], **setup.other_team},
    }


def _build_price_list(prices: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"price": price, "qualities": [quality], "source": "an estimate", "date": "2026-11-01"}
        for quality, price in prices.items()
    ]


def _build_unreachable_offer(prices: Mapping[str, str]) -> dict[str, Any]:
    return {UNREACHABLE_MODEL: OPENAI_OFFERS["offers"]["gpt-image-2"] | {"prices": _build_price_list(prices)}}


OPENAI_OFFERS: dict[str, Any] = {
    "account": "openai",
    "adapter": "openai",
    "offers": {
        "gpt-image-2": {
            "model": "gpt-image-2",
            "images_per_order": 10,
            "quality": {"selectable": ["low", "medium", "high"]},
            "formats": ["png", "jpeg", "webp"],
            "mask": True,
            "inputs": 16,
            "generate": {"pixels": "exact"},
            "edit": {"pixels": "exact"},
            "seconds": FAST_LATENCY,
            "prices": _build_price_list(OPENAI_PRICES),
            "tokens": {"input_text": "5.00", "input_image": "8.00", "output": "30.00"},
        }
    },
}
