"""The real command, in which the waits that are for hours of trouble last moments, and no trouble outlasts a test.

python -m tests.flow.impatient serve --port 0 ...
"""

import ctypes
import signal
from importlib import import_module

from gateway.cli import main
from gateway.upstream.ailing import Pause
from gateway.upstream.client import Exchange

PR_SET_PDEATHSIG = 1
# How long an order may take at least before it is given up, and how long one whose answer was lost is looked for.
PATIENCE_SECONDS = 2.0
RECONCILE_SECONDS = 2.0
OPEN_AGAIN_AT_ONCE = Pause(first=0.0, most=0.0)

SHORTER: dict[str, object] = {
    "gateway.engine.accepting.LEAST_PATIENCE": PATIENCE_SECONDS,
    # As long as the patience: an order whose answer does not come is found when its time is over.
    "gateway.engine.buying.SUBMIT_SECONDS": PATIENCE_SECONDS,
    "gateway.engine.delivering.PAUSE": 0.02,
    "gateway.engine.delivering.LONGEST_PAUSE": 0.5,
    "gateway.engine.asking.ASK": Exchange(seconds=0.4),
    "gateway.engine.following.GRACE_SECONDS": 0.5,
    "gateway.engine.following.RESEND_PAUSE": 0.1,
    "gateway.engine.following.SEARCH_SECONDS": 0.1,
    "gateway.engine.pace.SHORTEST": 0.05,
    "gateway.jobs.recovery.RECONCILE_SECONDS": RECONCILE_SECONDS,
    # One test's trouble is no reason to leave a seller out, or to order less, in the next one.
    "gateway.upstream.ailing.DOWN": OPEN_AGAIN_AT_ONCE,
    "gateway.upstream.ailing.REFUSED": OPEN_AGAIN_AT_ONCE,
    "gateway.upstream.ailing.UNFAITHFUL": OPEN_AGAIN_AT_ONCE,
    "gateway.upstream.gates.SHORTEST_WAIT": 0.05,
    "gateway.upstream.gates.USUAL_WAIT": 0.05,
    "gateway.upstream.lanes.RECOVERY_SECONDS": 0.05,
    "gateway.upstream.limits.EXTRA_AT_LEAST": 10_000,
}


def shorten() -> None:
    for name, value in SHORTER.items():
        module_name, _, attribute = name.rpartition(".")
        module = import_module(module_name)
        assert hasattr(module, attribute), f"there is no {name} any more"
        setattr(module, attribute, value)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    shorten()
    main()
