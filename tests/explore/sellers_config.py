"""The configuration of all runs: six sellers of one model that differ in how a lost order is found again."""

import json
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from msgspec.structs import replace

from gateway.catalogue import Catalogue
from gateway.config.catalogue_builder import resolve_files
from gateway.config.loader import load
from gateway.config.moderation_schema import HOOK_NAMES
from gateway.config.schema import DEFAULT_ADMIN_KEYS
from gateway.config.value_types import Secret, SecretRef
from gateway.timeouts_and_intervals import OpenDuration, Timing
from providers import ADAPTERS
from providers.adapter import Adapter, Call, Endpoint
from providers.orders import Order
from tests.explore.seller_dialects import CALLBACK_SECRET
from tests.harness.timings import change_timing

TEAM, MODEL = "explorers", "gpt-image-2"
POLICY_COUNT, SPLIT_SUFFIX = 48, "-split"
DEADLINE_SECONDS, LEASE_SECONDS = 25.0, 6.0
# A tenth of the product's times, so that a run ends soon. The relations between them stay.
TIMING = change_timing(
    Timing(),
    jobs={
        "confirmation_timeout_seconds": 8.0,
        "reconcile_timeout_seconds": 15.0,
        "search_interval_seconds": 2.0,
        "image_ttl_seconds": 60.0,
    },
    orders={
        "min_attempt_timeout_seconds": 30.0,
        "submit_timeout_seconds": 6.0,
        "slot_timeout_seconds": 5.0,
        "query_timeout_seconds": 4.0,
        "max_resend_backoff_seconds": 8.0,
        "retry_budget_timeout_seconds": 1.0,
    },
    polls={"max_interval_seconds": 4.0, "max_retry_after_seconds": 6.0, "missing_order_grace_seconds": 8.0},
    fetches={"max_backoff_seconds": 5.0, "max_fetch_seconds": 20.0},
    workers={"max_backoff_seconds": 8.0, "max_receive_seconds": 10.0},
    maintenance={"publish_interval_seconds": 3.0, "audit_interval_seconds": 10.0},
    health={"refused": OpenDuration(8.0, 30.0), "outage": OpenDuration(4.0, 20.0), "probe_timeout_seconds": 30.0},
)
PIXELS = {"generate": {"pixels": "exact"}, "edit": {"pixels": "exact"}}
RATIOS = {operation: {"ratios": ["1:1"], "resolutions": ["1k"]} for operation in ("generate", "edit")}
# By seller: the adapter, the account, the images per order, and how sizes are ordered.
SELLERS = {
    "runs": ("runflow_runs", "runflow", 4, PIXELS),
    "runs-with-replay": ("runflow_runs", "runflow-trusted", 4, PIXELS),
    "run": ("runflow_run", "runflow", 2, PIXELS),
    "tasks": ("runapi", "runapi", 1, RATIOS),
    "tasks-without-replay": ("runapi", "runapi-untrusted", 1, RATIOS),
    "openai": ("openai", "openai", 10, PIXELS),
}
PRICES = {"runflow_runs": "0.009", "runflow_run": "0.009", "runapi": "0.06", "openai": "0.00585"}
TRUSTED_ACCOUNTS = {"runflow-trusted", "runapi"}
ACCOUNTS = tuple(dict.fromkeys(account for _, account, *_ in SELLERS.values()))


@cache
def load_catalogue(
    account_without_key: str | None = None, moved_account: str | None = None, *, has_moderation: bool = False
) -> Catalogue:
    """Loads the configuration. An account can have no key, or another base URL than usual; the team can have hooks."""

    def find_secret(reference: SecretRef) -> Secret | None:
        is_missing = reference in (*DEFAULT_ADMIN_KEYS, f"env:{_name_key(account_without_key or '')}")
        return None if is_missing else Secret(CALLBACK_SECRET)

    with tempfile.TemporaryDirectory() as folder:
        write_config(Path(folder), moved_account, has_moderation=has_moderation)
        result = resolve_files(load(Path(folder)), find_secret, EXPLORED_ADAPTERS)
    assert result.catalogue is not None, result.problems
    return result.catalogue


def find_policy(first_seller: str) -> str:
    """Finds a policy whose route begins with this seller."""
    policies = load_catalogue().policies.policies
    return next(name for name, policy in policies.items() if (policy.sellers or ("",))[0] == first_seller)


def _name_key(account: str) -> str:
    return f"KEY_{account.upper().replace('-', '_')}"


def _add_reference(adapter: Adapter) -> Adapter:
    """OpenAI's orders have no reference. The scripted seller needs one to write its invoice."""

    def build_call(order: Order) -> Call:
        call = adapter.submit.build_call(order)
        return replace(call, headers={**call.headers, "x-client-request-id": order.reference})

    return replace(adapter, submit=Endpoint(build_call=build_call, read_answer=adapter.submit.read_answer))


EXPLORED_ADAPTERS = ADAPTERS | {"openai": _add_reference(ADAPTERS["openai"])}


def write_config(folder: Path, moved_account: str | None = None, *, has_moderation: bool = False) -> None:
    (folder / "offers").mkdir()
    for seller, (adapter, account, max_images, sizes) in SELLERS.items():
        offer = _build_offer(adapter, max_images, sizes)
        _write_json(folder / "offers" / f"{seller}.yaml", {"account": account, "adapter": adapter, "offers": offer})
    _write_json(folder / "models.yaml", {"models": {MODEL: {"defaults": {"quality": "low"}}}})
    _write_json(folder / "accounts.yaml", {"accounts": _build_accounts(moved_account)})
    policies = _build_policies()
    _write_json(folder / "policies.yaml", {"policies": policies, "default": "policy-0"})
    team = {"keys": ["env:KEY"], "policies": list(policies), "budget": {"day": "1000.00"}}
    _write_json(folder / "teams.yaml", {"teams": {TEAM: team}})
    jobs = {"deadline_seconds": DEADLINE_SECONDS, "lease_seconds": LEASE_SECONDS}
    moderate = {name: {"url": "https://hooks.test/"} for name in HOOK_NAMES} if has_moderation else {}
    _write_json(folder / "gateway.yaml", {"reload": {"watch": False}, "jobs": jobs, "moderate": moderate})


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def _build_offer(adapter: str, max_images: int, sizes: dict[str, Any]) -> dict[str, Any]:
    is_runapi = adapter == "runapi"
    prices = {"qualities": ["low"], "operations": ["generate", "edit"], "source": "script", "date": "2026-11-01"}
    offer = {
        "model": "openai/gpt-image-2" if adapter.startswith("runflow") else "gpt-image-2",
        "images_per_order": max_images,
        "quality": {"assumes": "low"} if is_runapi else {"selectable": ["low"]},
        "formats": [] if is_runapi else ["png"],
        "mask": not is_runapi,
        "inputs": 16,
        "seconds": {"any": {"p50": 1, "p90": 4}},
        "prices": [{"price": PRICES[adapter], **prices}],
        **sizes,
    }
    if adapter == "openai":
        offer["tokens"] = {"input_text": "5.00", "input_image": "8.00", "output": "30.00"}
    return {MODEL: offer}


def _build_accounts(moved_account: str | None) -> dict[str, Any]:
    return {
        account: {
            "base_url": f"https://{account}{'.moved' * (account == moved_account)}.test",
            "key": f"env:{_name_key(account)}",
            "callback_secrets": [] if account == "openai" else ["env:SECRET"],
            "replay": "trusted" if account in TRUSTED_ACCOUNTS else "untrusted",
        }
        for _, account, *_ in SELLERS.values()
    }


def _build_policies() -> dict[str, Any]:
    """Builds policies with random routes and limits of failover, and the same ones that split requests. They are the
    same in every run."""
    random = Random(11)
    policies = {f"policy-{number}": _draw_policy(random) for number in range(POLICY_COUNT)}
    return policies | {f"{name}{SPLIT_SUFFIX}": _add_split(policy) for name, policy in policies.items()}


def _add_split(policy: dict[str, Any]) -> dict[str, Any]:
    """Splits requests for several images over all sellers of the policy, at most three."""
    seller_count = min(3, len(policy["sellers"]))
    return policy | ({"split": {"over": 1, "sellers": seller_count}} if seller_count > 1 else {})


def _draw_policy(random: Random) -> dict[str, Any]:
    sellers = random.sample(list(SELLERS), random.randint(1, 4))
    failover = {"attempts": random.randint(1, 3), "on_unknown": random.choice(("fail", "fail", "reorder"))}
    return {"rank": "listed", "sellers": sellers, "failover": failover}
