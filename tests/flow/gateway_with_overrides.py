"""Starts a gateway with the fast timings and the overrides of one test module.

FLOW_CONSTANTS='{"gateway.health.retry_budget.MIN_RETRIES": null}' python -m tests.flow.gateway_with_overrides serve --port 0 ...

null keeps the product's value. FLOW_PUBLIC: see `public_site.py`. FLOW_RESOLVER_FILE: see `name_server.py`.
"""

import ctypes
import json
import os
import signal
from collections.abc import Mapping
from importlib import import_module

import msgspec

from gateway.cli import main
from tests.flow import public_site
from tests.harness import fast_timings, name_server


def set_overrides(overrides: Mapping[str, object]) -> None:
    for name, value in overrides.items():
        if value is None:
            assert fast_timings.FAST_TIMINGS.pop(name, None) is not None, (
                f"{name} is not in FAST_TIMINGS: None has no effect"
            )
        else:
            fast_timings.FAST_TIMINGS[name] = msgspec.convert(value, type(_get_product_value(name)))


def _get_product_value(name: str) -> object:
    module_name, _, attribute = name.rpartition(".")
    return getattr(import_module(module_name), attribute)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(fast_timings.PR_SET_PDEATHSIG, signal.SIGKILL)
    set_overrides(json.loads(os.environ["FLOW_CONSTANTS"]))
    fast_timings.apply_fast_timings()
    if path := os.environ.get(name_server.RESOLVER_FILE_ENV):
        name_server.use_resolver_file(path)
    if where := os.environ.get("FLOW_PUBLIC"):
        public_site.patch_public_internet(where)
    main()
