"""Pauses processes with SIGSTOP and SIGCONT."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness.gateway_process import GatewayProcess

# The gateway treats a store that does not answer for this time as unavailable.
STORE_TIMEOUT_SECONDS = 5.0


@contextmanager
def pause_process(pid: int, extra_seconds: float) -> Iterator[None]:
    """Pauses the process during the block and `extra_seconds` longer."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
        time.sleep(extra_seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def pause_gateway(gateway: GatewayProcess) -> Iterator[None]:
    gateway.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        gateway.send_signal(signal.SIGCONT)
