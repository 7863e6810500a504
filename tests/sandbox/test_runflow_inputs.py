"""What the simulated Runflow takes: input fields, edits, assets."""

import base64
from typing import Any

import httpx
import pytest

from tests.sandbox.runflow_owner import MODEL, Owner, fetched, order, upload
from tests.vendors import Vendors


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"num_images": 0}, "num_images"),
        ({"num_images": 5}, "num_images"),
        ({"num_images": "2"}, "num_images"),
        ({"num_images": True}, "num_images"),
        ({"quality": "xhigh"}, "quality"),
        ({"quality": "auto"}, "quality"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_format": []}, "output_format"),
        ({"image_size": "auto"}, "image_size"),
        ({"image_size": "1024x1024"}, "image_size"),
        ({"image_size": {"width": 1000, "height": 1000}}, "image_size"),
        ({"image_size": {"width": 3856, "height": 1600}}, "image_size"),
        ({"image_size": {"width": 3840, "height": 1264}}, "image_size"),
        ({"image_size": {"width": 512, "height": 512}}, "image_size"),
        ({"image_size": {"width": 3840, "height": 2176}}, "image_size"),
        ({"image_size": {"width": 1024}}, "image_size"),
        ({"image_size": {"width": 1024, "height": 1024, "depth": 1}}, "image_size"),
        ({"image_size": {"width": -16, "height": -16}}, "image_size"),
        ({"sync_mode": "yes"}, "sync_mode"),
    ],
)
def test_bad_input_is_refused_and_points_at_the_field(owner: Owner, fields: dict[str, Any], field: str) -> None:
    answer = owner.create(order(**{"prompt": "x", **fields}))
    assert answer.status_code == 422
    body = answer.json()
    assert set(body) == {"code", "message", "errors"}
    assert [error["loc"] for error in body["errors"]] == [["body", "input", field]]
    assert all({"loc", "msg", "type"} == set(error) for error in body["errors"])
    assert owner.sandbox.charges() == []


@pytest.mark.parametrize(
    "size",
    [
        {"width": 640, "height": 1024},
        {"width": 3840, "height": 2160},
        {"width": 2880, "height": 2880},
        {"width": 3840, "height": 1280},
    ],
)
def test_sizes_at_the_edge_of_the_law_are_drawn(owner: Owner, size: dict[str, int]) -> None:
    run = owner.run(order(image_size=size))
    assert fetched(run["output"]["outputs"][0]["url"])[:2] == (size["width"], size["height"])


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"\xff\xfe", b'{"input": 7}', b"{}", b"[" * 100_000])
def test_a_body_that_is_no_order_is_refused(sandbox: Vendors, owner: Owner, body: bytes) -> None:
    answer = sandbox.http.post(f"/runflow{MODEL}/runs", content=body, headers=owner.headers)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "beside", [{"callback_url": "h" * 2049}, {"callback_url": 7}, {"client_ref": "x" * 256}, {"metadata": []}]
)
def test_what_stands_beside_the_input_is_checked_too(owner: Owner, beside: dict[str, Any]) -> None:
    answer = owner.create(order(**beside))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", *beside]


@pytest.mark.parametrize(
    "path", ["/v1/models/gpt-image-2/runs", "/v1/models/openai/gpt-image-3/runs", f"{MODEL}/nothing", "/v1/models/runs"]
)
def test_a_model_that_is_not_there_is_not_found(owner: Owner, path: str) -> None:
    assert owner.ask("POST", path, order()).status_code == 404


def test_the_model_cannot_be_run_in_batches(owner: Owner) -> None:
    assert owner.ask("POST", f"{MODEL}/batches", {"input": [{}]}).status_code == 422


def test_an_edit_reads_inputs_from_the_web_from_data_uris_and_from_assets(sandbox: Vendors, owner: Owner) -> None:
    inline = "data:image/png;base64," + base64.b64encode(sandbox.sample()).decode()
    web = f"{sandbox.url}/_/sample.png?w=640&h=320"
    asset = upload(owner, sandbox.sample())
    for urls in ([web], [inline], [asset["url"]], [f"runflow://assets/{asset['id']}"], [web, inline, asset["url"]]):
        run = owner.run(order(image_urls=urls, mask_url=urls[0]), edit=True)
        assert run["status_code"] == "succeeded", run
        assert run["cost"] == "0.009"


def test_an_edit_takes_its_size_from_the_first_input(sandbox: Vendors, owner: Owner) -> None:
    run = owner.run(order(image_urls=[f"{sandbox.url}/_/sample.png?w=640&h=320"]), edit=True)
    width, height, _ = fetched(run["output"]["outputs"][0]["url"])
    assert width / height == pytest.approx(2, rel=0.03)
    assert width * height == pytest.approx(1 << 20, rel=0.05)


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1/x.png", "{url}/_/charges", "data:image/png;base64,AAAA", "runflow://assets/x", "ftp://x/y"],
)
def test_an_input_that_is_no_picture_fails_the_run(sandbox: Vendors, owner: Owner, address: str) -> None:
    run = owner.run(order(image_urls=[address.format(url=sandbox.url)]), edit=True)
    assert (run["status_code"], run["failure_code"], run["cost"]) == ("failed", "INPUT_VALIDATION_FAILED", None)
    assert run["failure_stage_code"] == "preprocess"
    assert sandbox.charges() == []


@pytest.mark.parametrize("urls", [None, [], "https://a.example/x.png", [7]])
def test_an_edit_without_inputs_is_refused(owner: Owner, urls: object) -> None:
    assert owner.create(order(image_urls=urls), edit=True).status_code == 422


def test_an_asset_is_stored_signed_and_signed_again(sandbox: Vendors, owner: Owner) -> None:
    data = sandbox.sample()
    record = upload(owner, data)
    assert record["size_bytes"] == len(data)
    assert httpx.get(record["url"], trust_env=False).content == data
    again = owner.ask("GET", f"/v1/assets/{record['id']}").json()
    assert again["url"] != record["url"]


@pytest.mark.parametrize(
    "body",
    [
        {"filename": "", "mime_type": "image/png", "size_bytes": 1},
        {"filename": "a", "mime_type": "text/html", "size_bytes": 1},
        {"filename": "a", "mime_type": "image/png", "size_bytes": 52_428_801},
        {"filename": "a", "mime_type": "image/png", "size_bytes": 0},
        {},
    ],
)
def test_an_upload_that_could_not_be_is_refused(owner: Owner, body: dict[str, Any]) -> None:
    assert owner.ask("POST", "/v1/asset-uploads", body).status_code == 422


def test_a_put_with_another_type_is_denied_and_nothing_can_be_confirmed(owner: Owner) -> None:
    opened = owner.ask("POST", "/v1/asset-uploads", {"filename": "a", "mime_type": "image/png", "size_bytes": 3}).json()
    put = httpx.put(opened["upload_url"], content=b"abc", headers={"content-type": "image/jpeg"}, trust_env=False)
    assert put.status_code == 403
    assert owner.ask("POST", f"/v1/asset-uploads/{opened['asset_id']}/confirmations", {}).status_code == 409
