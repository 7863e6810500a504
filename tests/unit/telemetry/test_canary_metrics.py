"""The gauges of canaries: how far each is, and whether it has passed."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from gateway.config.policy_schema import CanaryConfig, PolicyConfig
from gateway.config.value_types import ImageCount, Percent
from gateway.engine.canary_board import CanaryBoard
from gateway.routing.canary import CanaryProgress
from gateway.telemetry.canary_metric_table import CANARY_DELIVERED, CANARY_PASSED
from gateway.telemetry.gauges import GaugeReader, GaugeSources
from tests.unit.routing.catalogue_factory import make_catalogue

CANARY = CanaryConfig(seller="new", share=Percent(200), until=ImageCount(500))
CATALOGUE = make_catalogue((), {"it": PolicyConfig(rank="cost", canary=CANARY), "other": PolicyConfig(rank="cost")})


@pytest.mark.parametrize(
    ("progress", "delivered", "passed"),
    [
        (None, 0.0, 0.0),
        (CanaryProgress(images=125, charged=125, quoted=125), 0.25, 0.0),
        (CanaryProgress(images=500, charged=500, quoted=500), 1.0, 1.0),
        (CanaryProgress(images=900, charged=1_000, quoted=900), 1.0, 0.0),
    ],
    ids=["no reading yet", "on its way", "passed", "too expensive"],
)
def test_canary_has_gauges(progress: CanaryProgress | None, delivered: float, passed: float) -> None:
    board = CanaryBoard()
    board.progress = {"new": progress} if progress else {}
    engine = SimpleNamespace(context=MagicMock(canaries=board))
    fields = dict.fromkeys(GaugeSources.__struct_fields__, MagicMock())
    reader = GaugeReader(GaugeSources(**{**fields, "engine": engine, "get_catalogue": lambda: CATALOGUE}))
    gauges = [list(reader.readers[row]()) for row in (CANARY_DELIVERED, CANARY_PASSED)]
    assert gauges == [[(("it", "new"), delivered)], [(("it", "new"), passed)]]
