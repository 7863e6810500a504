"""The gateway with a heartbeat in its event loop: writes a line to the file HEARTBEAT for each late beat.

A line contains the time of the beat, by how many milliseconds it was late, and the CPU time of the process meanwhile,
which shows whether the gateway or another program used the processor.
"""

import asyncio
import os
import time
from typing import Any, TextIO

from gateway.commands import serve

HEARTBEAT_INTERVAL_SECONDS = 0.002
LATE_THRESHOLD_SECONDS = 0.003


class HeartbeatRecorder:
    def __init__(self, loop: asyncio.AbstractEventLoop, file: TextIO) -> None:
        self._loop, self._file = loop, file
        self._last_beat, self._last_cpu_used = time.monotonic(), time.process_time()

    def record_beat(self) -> None:
        now, cpu_used = time.monotonic(), time.process_time()
        if (late := now - self._last_beat - HEARTBEAT_INTERVAL_SECONDS) > LATE_THRESHOLD_SECONDS:
            self._file.write(f"{now:.6f} {late * 1000:.1f} {(cpu_used - self._last_cpu_used) * 1000:.1f}\n")
            self._file.flush()
        self._last_beat, self._last_cpu_used = now, cpu_used
        self._loop.call_later(HEARTBEAT_INTERVAL_SECONDS, self.record_beat)


class HeartbeatServer(serve._GatewayServer):
    async def startup(self, *args: Any, **kwargs: Any) -> None:
        await super().startup(*args, **kwargs)
        file = open(os.environ["HEARTBEAT"], "w")  # noqa: ASYNC230, SIM115  # open until the process ends
        HeartbeatRecorder(asyncio.get_running_loop(), file).record_beat()


def install_heartbeat() -> None:
    """Runs in the gateway's process, before it starts."""
    serve._GatewayServer = HeartbeatServer  # type: ignore[misc]
