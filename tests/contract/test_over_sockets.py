"""Every adapter against the simulated vendors over real sockets: what it buys, and what it believes it bought."""

import io
from itertools import product
from typing import Any

import httpx
import pytest
from msgspec import structs
from PIL import Image

from providers import ADAPTERS
from providers.faults import Bought, FaultKind
from providers.orders import AutoSize, Feature, Format, Inline, Operation, Order, Pixels, Preset, Quality, Shape
from providers.progress import Accepted, Failed, Ready, Unanswered, Working
from providers.sizes import RATIO_TOLERANCE, RATIOS, Resolution, parse_ratio, ratio_error, resolution_of
from providers.spec import Adapter, DataUri, Multipart, Upload
from tests.contract import cases
from tests.contract.driver import Seller
from tests.vendors import Vendors

VENDOR = {"runflow_runs": "runflow", "runflow_run": "runflow", "runapi": "runapi", "openai": "openai"}
EACH = pytest.mark.parametrize("name", list(ADAPTERS))
POLLED = pytest.mark.parametrize("name", ["runflow_runs", "runapi"])


def seller(sandbox: Vendors, name: str, **options: Any) -> Seller:
    return Seller(ADAPTERS[name], sandbox, **options)


def order(adapter: Adapter, number: int = 1, **changes: Any) -> Order:
    shaped = Feature.SHAPE in adapter.speaks.generate
    plain = Order(
        reference=f"igw-test-{number}",
        operation=Operation.GENERATE,
        model=cases.model(adapter),
        prompt="a lighthouse at dawn",
        size=Shape("16:9", Resolution.ONE_K) if shaped else Pixels(1280, 720),
        quality=None if shaped else Quality.LOW,
    )
    return structs.replace(plain, **changes)


def look(data: bytes) -> tuple[int, int, str]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.width, image.height, str(image.format).lower()


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


@pytest.mark.parametrize("name", ["runflow_runs", "runflow_run", "openai"])
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


@pytest.mark.parametrize("name", ["runflow_runs", "runflow_run", "openai"])
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


@pytest.mark.parametrize("name", ["runflow_runs", "runflow_run"])
@pytest.mark.parametrize(
    "preset", ["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]
)
def test_runflow_knows_its_presets(sandbox: Vendors, name: str, preset: str) -> None:
    shop = seller(sandbox, name)
    assert isinstance(shop.buy(order(shop.adapter, size=Preset(preset))), Ready)


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("runflow_runs", DataUri),
        ("runflow_runs", Upload),
        ("runflow_run", DataUri),
        ("runflow_run", Upload),
        ("runapi", Upload),
        ("openai", Multipart),
    ],
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
    assert width / height == pytest.approx(1.5 if name == "openai" else 2, rel=0.03)


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


# What one submit under each fault may say about money. The vendor's own invoice is the judge.
FAULTS: list[dict[str, Any]] = [
    {"kind": "reset_before"},
    {"kind": "reset_after"},
    {"kind": "truncate"},
    {"kind": "refuse"},
    {"kind": "html"},
    {"kind": "html", "accepted": True},
    {"kind": "html", "status": 200, "accepted": True},
    *({"kind": "status", "status": status} for status in (400, 401, 402, 403, 404, 408, 409, 413, 422, 429)),
    *({"kind": "status", "status": status} for status in (500, 502, 503, 504)),
    *({"kind": "status", "status": status, "accepted": True} for status in (500, 502, 504)),
    {"kind": "hang", "seconds": 1.0, "accepted": True},
    {"kind": "hang", "seconds": 1.0},
    {"kind": "slow", "seconds": 0.1},
    {"kind": "fail"},
    {"kind": "refuse_content"},
    {"kind": "empty_outputs"},
    {"kind": "partial"},
    {"kind": "downgrade"},
    {"kind": "expired_url"},
    {"kind": "stuck"},
]


@EACH
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: "-".join(str(value) for value in fault.values()))
def test_what_the_adapter_believes_about_money_is_true(
    sandbox: Vendors, name: str, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.contract.driver.DEADLINE_SECONDS", 0.3)
    shop = seller(sandbox, name, timeout=0.5)
    sandbox.fault(vendor=VENDOR[name], **fault)
    progress = shop.buy(order(shop.adapter))
    images = sum(charge["images"] for charge in sandbox.charges())
    if isinstance(progress, Ready):
        assert len(progress.pictures) == images == 1
    elif isinstance(progress, Failed | Unanswered):
        bought = progress.fault.bought
        assert (bought is Bought.NO) <= (images == 0), progress
        assert (bought is Bought.YES) <= (images > 0), progress
    else:
        assert isinstance(progress, Working)
        assert fault["kind"] == "stuck"


@EACH
def test_a_refused_content_is_known_for_what_it_is(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    sandbox.fault("refuse_content", vendor=VENDOR[name])
    refused = shop.buy(order(shop.adapter))
    assert isinstance(refused, Failed)
    assert refused.fault.kind is FaultKind.CONTENT_REFUSED


@EACH
def test_an_empty_success_is_known_to_be_paid_for(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    sandbox.fault("empty_outputs", vendor=VENDOR[name])
    empty = shop.buy(order(shop.adapter))
    assert isinstance(empty, Failed)
    assert empty.fault.kind is FaultKind.EMPTY
    assert len(sandbox.charges()) == 1


@EACH
def test_no_credit_is_known_and_nothing_is_charged(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    sandbox.balance(VENDOR[name], "0.001")
    refused = shop.buy(order(shop.adapter))
    assert isinstance(refused, Failed)
    assert refused.fault.kind is FaultKind.NO_CREDIT
    assert sandbox.charges() == []


@EACH
def test_a_bad_key_is_known(sandbox: Vendors, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = seller(sandbox, name)
    monkeypatch.setitem(__import__("tests.contract.driver", fromlist=["x"]).ACCOUNTS, name, (_path(name), "wrong"))
    refused = shop.submit(order(shop.adapter))
    assert isinstance(refused, Failed)
    assert refused.fault.kind is FaultKind.BAD_KEY


def _path(name: str) -> str:
    return {"openai": "/openai/v1"}.get(name, f"/{VENDOR[name]}")


@POLLED
def test_an_outage_while_polling_ends_nothing(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    sandbox.fault("status", vendor=VENDOR[name], route="poll", status=503, times=3)
    assert isinstance(shop.buy(order(shop.adapter)), Ready)
    assert len(sandbox.charges()) == 1


@EACH
def test_expired_links_are_the_sellers_and_cannot_be_fetched(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    sandbox.fault("expired_url", vendor=VENDOR[name])
    ready = shop.buy(order(shop.adapter))
    if name == "openai":
        assert shop.pictures(ready)
        return
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        shop.pictures(ready)


def test_inline_output_of_the_synchronous_route_is_read(sandbox: Vendors) -> None:
    """`sync_mode` is never asked for; a seller that answers so anyway is understood."""
    shop = seller(sandbox, "runflow_run")
    call = shop.adapter.submit.ask(order(shop.adapter))
    assert isinstance(call.body, bytes)
    answer = shop.perform(structs.replace(call, body=call.body.replace(b'"quality"', b'"sync_mode":true,"quality"')))
    assert not isinstance(answer, Unanswered)
    ready = shop.adapter.submit.read(answer)
    assert isinstance(ready, Ready)
    assert isinstance(ready.pictures[0], Inline)
    assert look(ready.pictures[0].data)[:2] == (1280, 720)
