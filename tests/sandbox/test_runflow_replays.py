"""Idempotency keys at the simulated Runflow: the same answer again, and nothing bought twice."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.sandbox.runflow_owner import MODEL, Owner, order
from tests.vendors import Vendors


def test_a_replay_is_the_same_answer_byte_for_byte(owner: Owner) -> None:
    first = owner.create(**{"idempotency-key": "k"})
    owner.finished(first.json()["id"])
    again = owner.create(**{"idempotency-key": "k"})
    assert (again.status_code, again.content) == (201, first.content)
    assert len(owner.sandbox.charges()) == 1


def test_a_key_with_another_body_is_a_conflict(owner: Owner) -> None:
    owner.create(**{"idempotency-key": "k"})
    other = owner.create(order("another"), **{"idempotency-key": "k"})
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")


def test_without_a_key_every_request_buys(owner: Owner) -> None:
    ids = {owner.create().json()["id"] for _ in range(2)}
    assert len(ids) == 2


def test_a_refused_request_leaves_its_key_free(owner: Owner) -> None:
    assert owner.create(order(quality="bad"), **{"idempotency-key": "k"}).status_code == 422
    assert owner.create(**{"idempotency-key": "k"}).status_code == 201


def test_simultaneous_duplicates_are_one_run(owner: Owner) -> None:
    def create(_: int) -> str:
        with httpx.Client(base_url=owner.sandbox.url, trust_env=False) as client:
            headers = owner.headers | {"idempotency-key": "k"}
            run_id: str = client.post(f"/runflow{MODEL}/runs", json=order(), headers=headers).json()["id"]
            return run_id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(create, range(16)))
    assert len(ids) == 1
    owner.finished(ids.pop())
    assert len(owner.sandbox.charges()) == 1


def test_mischief_makes_the_vendor_overlook_a_key(sandbox: Vendors, owner: Owner) -> None:
    sandbox.fault("ignore_idempotency_key", vendor="runflow", times=1)
    ids = [owner.create(**{"idempotency-key": "k"}).json()["id"] for _ in range(3)]
    assert ids[0] == ids[2] != ids[1]


def test_a_key_belongs_to_one_route(owner: Owner) -> None:
    assert owner.create(**{"idempotency-key": "k"}).status_code == 201
    other = owner.create(edit=True, **{"idempotency-key": "k"})
    assert other.status_code == 409


def test_a_replay_of_the_flat_route_has_its_inline_pictures_again(owner: Owner) -> None:
    body = {"prompt": "x", "quality": "low", "sync_mode": True}
    first, again = (owner.ask("POST", "/v1/run/openai/gpt-image-2", body, **{"idempotency-key": "k"}) for _ in range(2))
    assert first.json() == again.json()
    assert first.json()["outputs"][0]["url"].startswith("data:image/png;base64,")


def test_a_replay_of_the_flat_route_waits_for_the_order_under_way(sandbox: Vendors, owner: Owner) -> None:
    """The first client gave up waiting; asking again with the same key gets what was bought then."""
    sandbox.latency(1.0)
    headers = owner.headers | {"idempotency-key": "k"}
    body = {"prompt": "x", "quality": "low"}
    with httpx.Client(base_url=sandbox.url, trust_env=False, timeout=0.1) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/runflow/v1/run/openai/gpt-image-2", json=body, headers=headers)
    again = sandbox.http.post("/runflow/v1/run/openai/gpt-image-2", json=body, headers=headers)
    assert again.status_code == 200
    assert len(again.json()["images"]) == len(sandbox.charges()) == 1
