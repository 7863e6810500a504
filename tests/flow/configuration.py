"""A configuration whose sellers are those of the sandbox: the offers that are sold, quick, and OpenAI beside them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from sandbox.runapi_callbacks import CALLBACK_SECRET

ROOT = Path(__file__).parent.parent.parent
SELLERS = ("runflow-runs", "runflow-run", "runapi", "openai")
VENDOR = {"runflow-runs": "runflow", "runflow-run": "runflow", "runapi": "runapi", "openai": "openai"}
# Whom a test's order falls to when its seller fails: another vendor, whose invoice is another one.
BACKUP = {"runflow-runs": "runapi", "runflow-run": "runapi", "runapi": "runflow-runs", "openai": "runapi"}
SECONDS = re.compile(r"seconds:.*\n( {6}\w+: \{p50.*\n)*")
QUICK = {"any": {"p50": 0.05, "p90": 0.2}}
# A model of this name is expected to take long: its orders are not asked about for a while, unless their seller calls.
UNHURRIED, SLOW = "unhurried", {"any": {"p50": 60, "p90": 120}}
# A model that is sold at an address where nobody listens, and a little dearer by OpenAI.
SECLUDED, CLOSED, CLOSED_URL = "secluded", "closed", "http://127.0.0.1:1"
KEY, POOR_KEY, STRANGER_KEY = "igw_flow", "igw_poor", "igw_stranger"
# Teams with a budget for a day.
CAREFUL_KEY, THRIFTY_KEY = "igw_careful", "igw_thrifty"
# What one picture of 1024x1024 comes to by tokens, without those of the prompt: with them, what is booked for an order
# that was charged and never answered is what was charged. For other sizes these are the estimates that they look like.
OPENAI_PRICES = {"low": "0.00585", "medium": "0.05268", "high": "0.21072"}
SEALED = {
    "IGW_FLOW_RUNFLOW": "rf_sandbox",
    "IGW_FLOW_RUNAPI": "sk-sandbox",
    "IGW_FLOW_RUNAPI_CALLBACKS": CALLBACK_SECRET,
    "IGW_FLOW_OPENAI": "sk-sandbox",
    "IGW_FLOW_KEY": KEY,
    "IGW_FLOW_POOR_KEY": POOR_KEY,
    "IGW_FLOW_STRANGER_KEY": STRANGER_KEY,
    "IGW_FLOW_CAREFUL_KEY": CAREFUL_KEY,
    "IGW_FLOW_THRIFTY_KEY": THRIFTY_KEY,
}


class Setup(Struct, frozen=True, kw_only=True):
    """How a file of tests wants gateways of its own: constants by their full names, the limits of accounts, and what
    `gateway.yaml` says of jobs."""

    constants: dict[str, Any] = {}
    limits: dict[str, dict[str, int]] = {}
    jobs: dict[str, float] = {}


def write(folder: Path, sandbox: str, callback_secret: Path, setup: Setup) -> None:
    """`callback_secret`: the file in which Runflow's is found, once there is one."""
    (folder / "offers").mkdir(parents=True)
    for seller in SELLERS[:3]:
        sold = (ROOT / "tests" / "config" / "offers" / f"{seller}.yaml").read_text()
        head, offer = re.split(r"^  gpt-image-2:$", sold, flags=re.MULTILINE)
        quick, slow = (_taking(seconds, offer) for seconds in (QUICK, SLOW))
        offers = f"{head}  gpt-image-2:{quick}\n  {UNHURRIED}:{slow}"
        (folder / "offers" / f"{seller}.yaml").write_text(offers)
    _dump(folder / "offers" / "openai.yaml", OPENAI | {"offers": {**OPENAI["offers"], **_secluded(OPENAI_PRICES)}})
    cheaper = dict.fromkeys(OPENAI_PRICES, "0.001")
    _dump(folder / "offers" / f"{CLOSED}.yaml", OPENAI | {"account": CLOSED, "offers": _secluded(cheaper)})
    _dump(folder / "models.yaml", {"models": {"gpt-image-2": {}, UNHURRIED: {}, SECLUDED: {}}})
    accounts = _accounts(sandbox, callback_secret)
    for name, limits in setup.limits.items():
        accounts[name]["limits"] = limits
    _dump(folder / "accounts.yaml", {"accounts": accounts})
    _dump(folder / "policies.yaml", {"policies": _policies(), "default": "cheapest"})
    _dump(folder / "teams.yaml", {"teams": _teams()})
    _dump(folder / "gateway.yaml", {"reload": {"watch": False}, "jobs": setup.jobs})


def _taking(seconds: object, offer: str) -> str:
    found, times = SECONDS.subn(f"seconds: {json.dumps(seconds)}\n", offer)
    assert times == 1, "the offer does not say how long it takes, or not as this reads it"
    return found


def _dump(path: Path, content: object) -> None:
    """JSON is YAML."""
    path.write_text(json.dumps(content, indent=2))


def _accounts(sandbox: str, callback_secret: Path) -> dict[str, Any]:
    return {
        "runflow": {
            "base_url": f"{sandbox}/runflow",
            "key": "env:IGW_FLOW_RUNFLOW",
            "callback_secrets": [f"file:{callback_secret}"],
            "private": True,
        },
        "runapi": {
            "base_url": f"{sandbox}/runapi",
            "key": "env:IGW_FLOW_RUNAPI",
            "callback_secrets": ["env:IGW_FLOW_RUNAPI_CALLBACKS"],
            "replay": "trusted",
            "private": True,
        },
        "openai": {"base_url": f"{sandbox}/openai/v1", "key": "env:IGW_FLOW_OPENAI", "private": True},
        CLOSED: {"base_url": CLOSED_URL, "key": "env:IGW_FLOW_OPENAI", "private": True},
    }


def _policies() -> dict[str, Any]:
    """For each seller: with another one behind it, and with one although its first order may have been taken."""
    policies: dict[str, Any] = {"cheapest": {"rank": "cost"}}
    for seller in SELLERS:
        listed = {"rank": "listed", "sellers": [seller, BACKUP[seller]]}
        policies[f"first-{seller}"] = listed
        policies[f"again-{seller}"] = listed | {"failover": {"on_unknown": "reorder"}}
    return policies


def _teams() -> dict[str, Any]:
    policies = list(_policies())
    return {
        "flow": {"keys": ["env:IGW_FLOW_KEY"], "policies": policies},
        "poor": {"keys": ["env:IGW_FLOW_POOR_KEY"], "policies": policies, "budget": {"day": "0.01"}},
        "careful": {"keys": ["env:IGW_FLOW_CAREFUL_KEY"], "budget": {"day": "0.10"}},
        "thrifty": {"keys": ["env:IGW_FLOW_THRIFTY_KEY"], "budget": {"day": "0.40"}},
        "stranger": {"keys": ["env:IGW_FLOW_STRANGER_KEY"]},
    }


def _by_quality(prices: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"price": price, "qualities": [quality], "source": "an estimate", "date": "2026-11-01"}
        for quality, price in prices.items()
    ]


def _secluded(prices: Mapping[str, str]) -> dict[str, Any]:
    return {SECLUDED: OPENAI["offers"]["gpt-image-2"] | {"prices": _by_quality(prices)}}


OPENAI: dict[str, Any] = {
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
            "seconds": QUICK,
            "prices": _by_quality(OPENAI_PRICES),
            "tokens": {"input_text": "5.00", "input_image": "8.00", "output": "30.00"},
        }
    },
}
