"""What a running gateway expects and knows takes the place of what the files say, and its keys that of ours."""

from gateway.catalogue import Catalogue, Cell
from gateway.commands.live import KnownCell, Told
from gateway.routing.plan import Plan, Question, plan
from providers.orders import Operation, Quality
from providers.sizes import Resolution
from tests.unit.routing.catalogues import MODEL, account, catalogue, everywhere, offer, request

CELL = Cell(Operation.GENERATE, Resolution.ONE_K, Quality.HIGH)
WISH = Question(request=request(quality=Quality.HIGH))


def cell(seller: str, **more: object) -> KnownCell:
    where = {"operation": CELL.operation, "resolution": CELL.resolution, "quality": CELL.quality}
    return KnownCell(seller=seller, model=MODEL, **{**where, **more})  # type: ignore[arg-type]


def planned(told: Told, files: Catalogue) -> Plan:
    return plan(told.as_there(files), WISH, told.signals)


def two(**ours: str | None) -> Catalogue:
    sellers = {"one": "a key", "two": "a key", **ours}
    return catalogue([offer(name, everywhere(10_000), account=account(key)) for name, key in sellers.items()])


def test_what_is_expected_there_counts_and_stays_an_expectation() -> None:
    told = Told("", (cell("one", p50=3.0, p90=4.0, measured=False), cell("two", p50=1.0, p90=2.0)))
    ranked = {one.fit.offer.seller.name: one for one in planned(told, two()).ranked}
    assert {name: one.seconds for name, one in ranked.items()} == {"one": 3.0, "two": 1.0}
    assert (ranked["one"].signals.p50, ranked["two"].signals.p50) == (None, 1.0)


def test_whoever_has_no_key_there_is_out_and_whoever_has_one_is_in() -> None:
    told = Told("", (cell("one", has_key=False), cell("two")))
    found = planned(told, two(two=None))
    assert [one.fit.offer.seller.name for one in found.ranked] == ["two"]
    assert [one.seller for one in found.excluded] == ["one"]


def test_sellers_that_are_not_known_there_are_as_the_files_say() -> None:
    found = planned(Told("", ()), two(two=None))
    assert [one.fit.offer.seller.name for one in found.ranked] == ["one"]


def test_a_gateway_that_tells_less_is_understood() -> None:
    told = Told("", (cell("one", p50=None, p90=None, measured=False), cell("two", p50=5.0, p90=6.0)))
    assert sorted(one.seconds for one in planned(told, two()).ranked) == [5.0, 10.0]
