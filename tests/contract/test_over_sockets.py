"""Every adapter against the simulated vendors over real sockets: what it buys, and what it believes it bought."""

import io
from itertools import product
from typing import Any

import pytest
from msgspec import structs
from PIL import Image

from providers import ADAPTERS
from providers.faults import Bought, FaultKind
from providers.orders import AutoSize, Feature, Format, Inline, Operation, Pixels, Preset, Quality, Shape
from providers.progress import Accepted, Ready, Unanswered
from providers.sizes import RATIO_TOLERANCE, RATIOS, Resolution, parse_ratio, ratio_error, resolution_of
from tests.contract.sockets import EACH, POLLED, SIMULATED, VENDOR, look, names, order, seller
from tests.vendors import Vendors


@EACH
def test_a_picture_is_bought_and_is_a_picture(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    ready = shop.buy(order(shop.adapter))
    (data,) = shop.pictures(ready)
    width, height, kind = look(data)
    assert (width / height, kind) == (pytest.approx(16 / 9, rel=0.02), "png")
    (charge,) = sandbox.charges()
    assert charge["vendor"] == VENDOR[name]
    assert charge["idempotency_key"] == ("igw-test-1" if shop.adapter.replay_key else None)
    assert isinstance(ready, Ready)
    if ready.cost is not None:
        assert ready.cost == charge["usd_micros"]


@pytest.mark.parametrize("name", names(Feature.PIXELS, Feature.QUALITY, Feature.OUTPUT_FORMAT))
@pytest.mark.parametrize("quality", list(Quality))
@pytest.mark.parametrize("kind", list(Format))
def test_quality_format_and_pixels_are_what_was_ordered(
    sandbox: Vendors, name: str, quality: Quality, kind: Format
) -> None:
    shop = seller(sandbox, name)
    wanted = order(shop.adapter, quality=quality, output_format=kind, size=Pixels(1088, 640))
    (data,) = shop.pictures(shop.buy(wanted))
    assert look(data) == (1088, 640, kind)
    if VENDOR[name] == "runflow":
        assert sandbox.charges()[0]["usd_micros"] == {"low": 9_000, "medium": 34_000, "high": 133_000}[quality]


@pytest.mark.parametrize("name", names(Feature.SEVERAL_IMAGES))
def test_several_pictures_come_from_one_order(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    most = shop.adapter.speaks.most_images
    pictures = shop.pictures(shop.buy(order(shop.adapter, images=most)))
    assert len(set(pictures)) == most
    (charge,) = sandbox.charges()
    assert charge["images"] == most


@pytest.mark.parametrize(
    ("ratio", "tier"), [pair for pair in product(RATIOS, Resolution) if pair != ("1:1", Resolution.FOUR_K)]
)
def test_runapi_draws_every_ratio_in_every_tier(sandbox: Vendors, ratio: str, tier: Resolution) -> None:
    shop = seller(sandbox, "runapi")
    (data,) = shop.pictures(shop.buy(order(shop.adapter, size=Shape(ratio, tier))))
    width, height, _ = look(data)
    assert ratio_error(parse_ratio(f"{width}:{height}"), parse_ratio(ratio)) <= RATIO_TOLERANCE
    assert resolution_of(width, height) is tier
    assert sandbox.charges()[0]["usd_micros"] == {"1k": 60_000, "2k": 100_000, "4k": 160_000}[tier]


@pytest.mark.parametrize("name", names(Feature.PRESET))
@pytest.mark.parametrize(
    "preset", ["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]
)
def test_runflow_knows_its_presets(sandbox: Vendors, name: str, preset: str) -> None:
    shop = seller(sandbox, name)
    assert isinstance(shop.buy(order(shop.adapter, size=Preset(preset))), Ready)


@pytest.mark.parametrize(
    ("name", "route"), [(name, type(route)) for name in SIMULATED for route in ADAPTERS[name].inputs]
)
@pytest.mark.parametrize("count", [1, 3])
def test_an_edit_takes_its_inputs_by_every_route(sandbox: Vendors, name: str, route: type[Any], count: int) -> None:
    shop = seller(sandbox, name)
    image = Inline(sandbox.sample(640, 320), "image/png", "in.png")
    sources = tuple(shop.bring(image, route) for _ in range(count))
    spoken = shop.adapter.speaks.edit
    edit = order(
        shop.adapter,
        operation=Operation.EDIT,
        sources=sources,
        mask=shop.bring(_mask(640, 320), route) if Feature.MASK in spoken else None,
        size=AutoSize(),
    )
    (data,) = shop.pictures(shop.buy(edit))
    width, height, _ = look(data)
    # OpenAI's own page has an edit come out at the nearest of its three standard sizes.
    assert width / height == pytest.approx(1.5 if VENDOR[name] == "openai" else 2, rel=0.03)


def _mask(width: int, height: int) -> Inline:
    data = io.BytesIO()
    Image.new("RGBA", (width, height), (0, 0, 0, 0)).save(data, "PNG")
    return Inline(data.getvalue(), "image/png", "mask.png")


@POLLED
def test_a_replay_buys_nothing_and_gives_the_same_ticket(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    first, again = shop.submit(order(shop.adapter)), shop.submit(order(shop.adapter))
    assert isinstance(first, Accepted)
    assert again.id == first.id
    shop.buy(order(shop.adapter))
    assert len(sandbox.charges()) == 1


@POLLED
def test_a_key_with_other_bytes_is_a_conflict_that_leaves_the_order_open(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    shop.submit(order(shop.adapter))
    conflict = shop.submit(order(shop.adapter, prompt="something else"))
    assert isinstance(conflict, Unanswered)
    assert conflict.fault.kind is FaultKind.CONFLICT


@pytest.mark.parametrize("asked", [0, 1])
def test_a_run_is_found_by_our_reference_in_either_spelling(sandbox: Vendors, asked: int) -> None:
    shop = seller(sandbox, "runflow_runs")
    for number in (1, 2, 3):
        shop.submit(order(shop.adapter, number))
    (ticket,) = shop.find("igw-test-2", asked)
    assert shop.follow(ticket).reference == "igw-test-2"
    assert shop.find("igw-test-4", asked) == []


def test_a_lost_answer_is_found_again_and_not_bought_twice(sandbox: Vendors) -> None:
    shop = seller(sandbox, "runflow_runs")
    sandbox.fault("reset_after", vendor="runflow", times=1)
    lost = shop.submit(order(shop.adapter))
    assert isinstance(lost, Unanswered)
    assert lost.fault.bought is Bought.PERHAPS
    (ticket,) = shop.find("igw-test-1", 0)
    assert isinstance(shop.follow(ticket), Ready)
    assert len(sandbox.charges()) == 1


def test_runapis_header_tells_of_a_task_whose_body_was_cut(sandbox: Vendors) -> None:
    """The adapter believes the header, so that a garbled body does not cost a second picture."""
    shop = seller(sandbox, "runapi")
    call = shop.adapter.submit.ask(order(shop.adapter))
    answer = shop.perform(call)
    assert not isinstance(answer, Unanswered)
    accepted = shop.adapter.submit.read(structs.replace(answer, body=answer.body[:-5]))
    assert isinstance(accepted, Accepted)
    assert accepted.id == shop.submit(order(shop.adapter)).id
