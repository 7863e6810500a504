"""Lets Ctrl-C end a command that waits for a response."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CHECK_INTERVAL_SECONDS = 1.0


@contextmanager
def check_for_interrupts() -> Iterator[None]:
    """Interrupts the system call of the main thread once a second. Python handles a signal between two instructions:
    one that arrives just before a wait for the network would otherwise be handled only after the wait, a minute later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous_handler = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, CHECK_INTERVAL_SECONDS, CHECK_INTERVAL_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)
