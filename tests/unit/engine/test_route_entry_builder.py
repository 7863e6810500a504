"""Route entries are made once for each way to order an offer, until the configuration changes."""

from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from gateway.catalogue import Catalogue
from gateway.config.value_types import Secret
from gateway.engine.route_entry_builder import MAX_KEPT_ENTRIES, RouteEntryBuilder
from gateway.jobs.job import RecoveryMethod
from gateway.routing.fit import Fit, FitRequirements, match_offer
from gateway.timeouts_and_intervals import OrderTiming, Timing
from providers import ADAPTERS
from providers.image_sizes import TargetSize
from providers.orders import Format, Operation
from tests.unit.routing.catalogue_factory import (
    make_account,
    make_catalogue,
    make_offer,
    make_request,
    make_uniform_prices,
)

PNG_REQUEST, JPEG_REQUEST = make_request(output_format=Format.PNG), make_request(output_format=Format.JPEG)


class FakeSettings(Struct):
    """The settings of one gateway."""

    current: Catalogue
    timing: Timing = Timing()
    callback_urls: Any = None

    def catalogue(self) -> Catalogue:
        return self.current


def make_fit(output_format: Format = Format.PNG, **changes: Any) -> Fit:
    requirements = FitRequirements(
        operation=Operation.GENERATE,
        target=TargetSize(1024, 1024, "1:1", "1k"),
        has_explicit_size=True,
        quality="low",
        has_explicit_quality=True,
        output_format=output_format,
        has_mask=False,
        input_count=0,
    )
    fit = match_offer(make_offer("seller", make_uniform_prices(100), **changes), requirements)
    assert isinstance(fit, Fit)
    return fit


def test_entries_are_kept_until_catalogue_or_times_change() -> None:
    settings, maker, fit = FakeSettings(make_catalogue(())), RouteEntryBuilder(), make_fit()
    [first] = maker.make_entries(settings, [fit], PNG_REQUEST)
    assert maker.make_entries(settings, [fit], PNG_REQUEST)[0] is first
    settings.current = make_catalogue(())
    assert maker.make_entries(settings, [fit], PNG_REQUEST)[0] is not first
    settings.timing = replace(settings.timing, orders=OrderTiming(min_attempt_timeout_seconds=9_999.0))
    [changed] = maker.make_entries(settings, [fit], PNG_REQUEST)
    assert (first.entry.timeout_seconds, changed.entry.timeout_seconds) == (420.0, 9_999.0)


def test_equal_fits_have_their_own_entries_in_their_order() -> None:
    settings, maker = FakeSettings(make_catalogue(())), RouteEntryBuilder()
    png, jpeg = make_fit(), make_fit(Format.JPEG, formats=frozenset({Format.PNG}))
    assert [entry.terms.output_format for entry in maker.make_entries(settings, [png], PNG_REQUEST)] == [Format.PNG]
    made = maker.make_entries(settings, [jpeg, png], JPEG_REQUEST)
    assert [entry.terms.output_format for entry in made] == [None, Format.PNG]


def test_number_of_kept_entries_is_limited() -> None:
    settings, maker, fit = FakeSettings(make_catalogue(())), RouteEntryBuilder(), make_fit()
    for _ in range(MAX_KEPT_ENTRIES + 1):
        maker.make_entries(settings, [replace(fit)], PNG_REQUEST)
    assert len(maker._entries) == 1


@pytest.mark.parametrize(
    ("adapter", "account", "has_callback_urls", "expected"),
    [
        ("runapi", {"replay_trusted": True}, False, RecoveryMethod.REPLAY),
        ("runapi", {"callback_secrets": (Secret("s"),)}, True, RecoveryMethod.CALLBACK),
        ("runapi", {"callback_secrets": (Secret("s"),)}, False, RecoveryMethod.NONE),
        ("runapi", {}, True, RecoveryMethod.NONE),
        ("runflow_runs", {"callback_secrets": (Secret("s"),)}, True, RecoveryMethod.SEARCH),
        ("openai", {"replay_trusted": True}, True, RecoveryMethod.NONE),
    ],
)
def test_recovery_method_depends_on_adapter_account_and_callback_urls(
    adapter: str, account: dict[str, Any], has_callback_urls: bool, expected: RecoveryMethod
) -> None:
    fit = make_fit()
    seller = replace(fit.offer.seller, adapter=ADAPTERS[adapter], account=replace(make_account(), **account))
    fit = replace(fit, offer=replace(fit.offer, seller=seller))
    settings = FakeSettings(make_catalogue(()), callback_urls=object() if has_callback_urls else None)
    [made] = RouteEntryBuilder().make_entries(settings, [fit], PNG_REQUEST)
    assert made.entry.recovery_method is expected
