"""The section `timing` of gateway.yaml: every option sets one time, at start or on a reload."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct, inspect
from msgspec.structs import asdict

from gateway.catalogue import DRAINING_TTL_SECONDS
from gateway.config.catalogue_builder import secrets_from_env
from gateway.config.reloader import ConfigReloader
from gateway.config.schema import JobsConfig
from gateway.config.timing_options import TimingConfig, configure_timing
from gateway.gateway_lifecycle import Gateway
from gateway.settings import load_settings
from gateway.timeouts_and_intervals import DEFAULT_JOB_TIMING, OrderTiming, Timing
from providers import ADAPTERS
from tests.harness.timings import iterate_values
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, write_config

# Litestar announces changes of its next version. A gateway process ignores these warnings, too.
pytestmark = pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
OPTIONS = asdict(TimingConfig())
TEST_TIMING = Timing(orders=OrderTiming(submit_timeout_seconds=2.0, slot_timeout_seconds=0.5))


def test_defaults_change_nothing() -> None:
    assert configure_timing(Timing(), TimingConfig()) == Timing()
    assert configure_timing(Timing(), TimingConfig()).jobs is DEFAULT_JOB_TIMING
    assert configure_timing(TEST_TIMING, TimingConfig()) == TEST_TIMING


@pytest.mark.parametrize("option", OPTIONS)
def test_option_sets_one_time_that_has_its_default(option: str) -> None:
    before, value = dict(iterate_values(Timing())), OPTIONS[option] - 0.01
    after = dict(iterate_values(configure_timing(Timing(), msgspec.convert({option: value}, TimingConfig))))
    [changed] = [name for name in before if before[name] != after[name]]
    assert (before[changed], after[changed]) == (OPTIONS[option], value)


def get_maximum(config: type[Struct], option: str) -> float:
    [field] = [field for field in inspect.type_info(config).fields if field.name == option]
    return float(getattr(field.type, "type", field.type).le)


def test_drained_offer_outlasts_jobs_with_the_longest_times() -> None:
    """Images and open orders of a removed seller are still fetched."""
    times = [get_maximum(TimingConfig, option) for option in ("min_order_seconds", "reconcile_seconds")]
    deadline = get_maximum(JobsConfig, "deadline_seconds")
    assert deadline + sum(times) + DEFAULT_JOB_TIMING.image_ttl_seconds < DRAINING_TTL_SECONDS


def make_gateway(folder: Path) -> Gateway:
    settings = load_settings({"IGW_CONFIG": str(folder), "IGW_DATA": str(folder / "data")})
    secrets = secrets_from_env(SAMPLE_ENVIRON)
    return Gateway(
        settings,
        lambda on_reload: ConfigReloader(settings.config, secrets, ADAPTERS, on_reload),
        lambda catalogue, logs: catalogue,
        timing=TEST_TIMING,
    )


def test_reload_applies_times_of_orders_and_leaves_the_others(tmp_path: Path) -> None:
    timing = "timing: {slot_seconds: 7, reconcile_seconds: 60, claim_seconds: 2, outage_seconds: 9}\n"
    write_config(tmp_path, SAMPLE_FILES | {"gateway.yaml": timing})
    gateway = make_gateway(tmp_path)
    try:
        assert (
            gateway.timing.orders.slot_timeout_seconds,
            gateway.timing.claims.interval_seconds,
        ) == (7.0, 2.0)
        assert gateway.timing.orders.submit_timeout_seconds == TEST_TIMING.orders.submit_timeout_seconds
        changed = "timing: {reconcile_seconds: 90, claim_seconds: 3, outage_seconds: 10}\n"
        (tmp_path / "gateway.yaml").write_text(changed)
        assert asyncio.run(gateway.reloader.reload()).is_applied
        assert gateway.timing.orders == TEST_TIMING.orders, "an option that is removed has its default again"
        assert gateway.timing.jobs.reconcile_timeout_seconds == 90.0
        assert gateway.timing.claims.interval_seconds == 2.0
        assert gateway.timing.health.outage.initial_seconds == 9.0
    finally:
        gateway.logs.close()


def test_rejected_reload_keeps_the_times(tmp_path: Path) -> None:
    write_config(tmp_path, SAMPLE_FILES | {"gateway.yaml": "timing: {slot_seconds: 7}\n"})
    gateway = make_gateway(tmp_path)
    try:
        (tmp_path / "gateway.yaml").write_text("timing: {slot_seconds: 8, claim_seconds: 0}\n")
        assert not asyncio.run(gateway.reloader.reload()).is_applied
        assert gateway.timing.orders.slot_timeout_seconds == 7.0
    finally:
        gateway.logs.close()
