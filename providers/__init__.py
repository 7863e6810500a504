"""Adapters for the APIs of image providers, and the contract that they keep. Pure: no I/O, no clock, no randomness."""

from collections.abc import Mapping

from providers import openai
from providers.adapter import Adapter
from providers.runapi import adapter as runapi_adapter
from providers.runflow import runs_adapter, synchronous_adapter

ADAPTERS: Mapping[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        runs_adapter.ADAPTER,
        synchronous_adapter.ADAPTER,
        runapi_adapter.ADAPTER,
        openai.ADAPTER,
    )
}
