"""The impatient gateway, with some of its constants as one file of tests wants them.

FLOW_CONSTANTS='{"gateway.upstream.limits.EXTRA_AT_LEAST": null}' python -m tests.flow.tuned serve --port 0 ...

null: as it is in the product. FLOW_PUBLIC: see `public.py`. FLOW_RESOLVER_FILE: see `names.py`.
"""

import ctypes
import json
import os
import signal
from collections.abc import Mapping
from importlib import import_module

import msgspec

from gateway.cli import main
from tests.flow import impatient, names, public


def tune(constants: Mapping[str, object]) -> None:
    for name, value in constants.items():
        if value is None:
            assert impatient.SHORTER.pop(name, None) is not None, f"{name} is as in the product already"
        else:
            impatient.SHORTER[name] = msgspec.convert(value, type(_as_it_is(name)))


def _as_it_is(name: str) -> object:
    module_name, _, attribute = name.rpartition(".")
    return getattr(import_module(module_name), attribute)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(impatient.PR_SET_PDEATHSIG, signal.SIGKILL)
    tune(json.loads(os.environ["FLOW_CONSTANTS"]))
    impatient.shorten()
    if path := os.environ.get(names.RESOLVER_FILE):
        names.use_resolver_file(path)
    if where := os.environ.get("FLOW_PUBLIC"):
        public.pretend(where)
    main()
