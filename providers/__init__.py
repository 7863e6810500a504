"""Dialects of the companies that sell pictures, and the contract they keep. Pure: no I/O, no clock, no randomness."""

from collections.abc import Mapping

from providers import openai, runapi, runflow_run, runflow_runs
from providers.spec import Adapter

ADAPTERS: Mapping[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        runflow_runs.ADAPTER,
        runflow_run.ADAPTER,
        runapi.ADAPTER,
        openai.ADAPTER,
    )
}
