"""Inputs of the simulated Runflow: fields, edits, assets."""

import base64
from typing import Any

import httpx
import pytest

from tests.harness.sandbox_runner import RunningSandbox
from tests.sandbox.runflow_client import MODEL_PATH, RunflowClient, build_order, fetch_image_info, upload_asset


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
def test_error_of_invalid_input_names_the_field(
    runflow_client: RunflowClient, fields: dict[str, Any], field: str
) -> None:
    answer = runflow_client.create_run(build_order(**{"prompt": "x", **fields}))
    assert answer.status_code == 422
    body = answer.json()
    assert set(body) == {"code", "message", "errors"}
    assert [error["loc"] for error in body["errors"]] == [["body", "input", field]]
    assert all({"loc", "msg", "type"} == set(error) for error in body["errors"])
    assert runflow_client.sandbox.list_charges() == []


@pytest.mark.parametrize(
    "size",
    [
        {"width": 640, "height": 1024},
        {"width": 3840, "height": 2160},
        {"width": 2880, "height": 2880},
        {"width": 3840, "height": 1280},
    ],
)
def test_smallest_and_largest_legal_sizes_are_rendered(runflow_client: RunflowClient, size: dict[str, int]) -> None:
    run = runflow_client.run_to_end(build_order(image_size=size))
    assert fetch_image_info(run["output"]["outputs"][0]["url"])[:2] == (size["width"], size["height"])


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"\xff\xfe", b'{"input": 7}', b"{}", b"[" * 100_000])
def test_invalid_body_is_rejected(sandbox: RunningSandbox, runflow_client: RunflowClient, body: bytes) -> None:
    answer = sandbox.http.post(f"/runflow{MODEL_PATH}/runs", content=body, headers=runflow_client.headers)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "beside", [{"callback_url": "h" * 2049}, {"callback_url": 7}, {"client_ref": "x" * 256}, {"metadata": []}]
)
def test_fields_beside_the_input_are_checked(runflow_client: RunflowClient, beside: dict[str, Any]) -> None:
    answer = runflow_client.create_run(build_order(**beside))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", *beside]


@pytest.mark.parametrize(
    "path",
    ["/v1/models/gpt-image-2/runs", "/v1/models/openai/gpt-image-3/runs", f"{MODEL_PATH}/nothing", "/v1/models/runs"],
)
def test_unknown_model_is_not_found(runflow_client: RunflowClient, path: str) -> None:
    assert runflow_client.request("POST", path, build_order()).status_code == 404


def test_batches_are_rejected(runflow_client: RunflowClient) -> None:
    assert runflow_client.request("POST", f"{MODEL_PATH}/batches", {"input": [{}]}).status_code == 422


def test_edit_accepts_urls_data_uris_and_assets(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    inline = "data:image/png;base64," + base64.b64encode(sandbox.fetch_sample_image()).decode()
    web = f"{sandbox.url}/_/sample.png?w=640&h=320"
    asset = upload_asset(runflow_client, sandbox.fetch_sample_image())
    for urls in ([web], [inline], [asset["url"]], [f"runflow://assets/{asset['id']}"], [web, inline, asset["url"]]):
        run = runflow_client.run_to_end(build_order(image_urls=urls, mask_url=urls[0]), edit=True)
        assert run["status_code"] == "succeeded", run
        assert run["cost"] == "0.009"


def test_edit_takes_its_size_from_the_first_input(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    run = runflow_client.run_to_end(build_order(image_urls=[f"{sandbox.url}/_/sample.png?w=640&h=320"]), edit=True)
    width, height, _ = fetch_image_info(run["output"]["outputs"][0]["url"])
    assert width / height == pytest.approx(2, rel=0.03)
    assert width * height == pytest.approx(1 << 20, rel=0.05)


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1/x.png", "{url}/_/charges", "data:image/png;base64,AAAA", "runflow://assets/x", "ftp://x/y"],
)
def test_input_that_is_not_an_image_fails_the_run(
    sandbox: RunningSandbox, runflow_client: RunflowClient, address: str
) -> None:
    run = runflow_client.run_to_end(build_order(image_urls=[address.format(url=sandbox.url)]), edit=True)
    assert (run["status_code"], run["failure_code"], run["cost"]) == ("failed", "INPUT_VALIDATION_FAILED", None)
    assert run["failure_stage_code"] == "preprocess"
    assert sandbox.list_charges() == []


@pytest.mark.parametrize("urls", [None, [], "https://a.example/x.png", [7]])
def test_edit_without_inputs_is_rejected(runflow_client: RunflowClient, urls: object) -> None:
    assert runflow_client.create_run(build_order(image_urls=urls), edit=True).status_code == 422


def test_asset_is_stored_and_gets_a_new_signature_on_each_read(
    sandbox: RunningSandbox, runflow_client: RunflowClient
) -> None:
    data = sandbox.fetch_sample_image()
    record = upload_asset(runflow_client, data)
    assert record["size_bytes"] == len(data)
    assert httpx.get(record["url"], trust_env=False).content == data
    again = runflow_client.request("GET", f"/v1/assets/{record['id']}").json()
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
def test_invalid_upload_request_is_rejected(runflow_client: RunflowClient, body: dict[str, Any]) -> None:
    assert runflow_client.request("POST", "/v1/asset-uploads", body).status_code == 422


def test_put_with_another_type_is_denied_and_cannot_be_confirmed(runflow_client: RunflowClient) -> None:
    created = runflow_client.request(
        "POST", "/v1/asset-uploads", {"filename": "a", "mime_type": "image/png", "size_bytes": 3}
    ).json()
    put = httpx.put(created["upload_url"], content=b"abc", headers={"content-type": "image/jpeg"}, trust_env=False)
    assert put.status_code == 403
    assert (
        runflow_client.request("POST", f"/v1/asset-uploads/{created['asset_id']}/confirmations", {}).status_code == 409
    )
