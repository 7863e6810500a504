"""Genuine callbacks are known by their signature, everything else is not, and any body may come."""

from typing import Any

import pytest

from providers import ADAPTERS
from providers.spec import Adapter, Callback
from tests.contract import cases

WITH_CALLBACKS = [adapter for adapter in ADAPTERS.values() if adapter.callback]
EACH = pytest.mark.parametrize("adapter", WITH_CALLBACKS, ids=[adapter.name for adapter in WITH_CALLBACKS])


def fixture(adapter: Adapter) -> tuple[dict[str, Any], Callback]:
    content = cases.load(adapter.name, "callback")
    assert content is not None
    assert adapter.callback is not None
    return content, adapter.callback


@EACH
def test_a_genuine_callback_names_its_order(adapter: Adapter) -> None:
    content, callback = fixture(adapter)
    genuine = content["genuine"]
    body = genuine["text"].encode()
    assert callback.verify(genuine["headers"], body, content["secrets"], content["now"])
    assert callback.read(body) == genuine["names"]


@EACH
def test_either_secret_is_good_while_one_replaces_the_other(adapter: Adapter) -> None:
    content, callback = fixture(adapter)
    genuine = content["genuine"]
    body = genuine["text"].encode()
    for secrets in (content["secrets"][::-1], content["secrets"][1:]):
        assert callback.verify(genuine["headers"], body, secrets, content["now"])
    assert not callback.verify(genuine["headers"], body, content["secrets"][:1], content["now"])


@EACH
def test_no_secret_admits_nobody(adapter: Adapter) -> None:
    """An empty secret must not become an empty key that anybody can sign with."""
    content, callback = fixture(adapter)
    genuine = content["genuine"]
    for secrets in ([], [""], ["", ""]):
        assert not callback.verify(genuine["headers"], genuine["text"].encode(), secrets, content["now"])


def _forgeries() -> list[Any]:
    return [
        pytest.param(adapter, forged, id=f"{adapter.name}-{forged['case']}")
        for adapter in WITH_CALLBACKS
        for forged in fixture(adapter)[0]["forged"]
    ]


@pytest.mark.parametrize(("adapter", "forged"), _forgeries())
def test_a_forged_callback_is_refused(adapter: Adapter, forged: dict[str, Any]) -> None:
    content, callback = fixture(adapter)
    assert not callback.verify(forged["headers"], forged["text"].encode(), content["secrets"], content["now"])


@EACH
def test_changing_any_bit_breaks_the_signature(adapter: Adapter) -> None:
    content, callback = fixture(adapter)
    genuine = content["genuine"]
    body = genuine["text"].encode()
    for at in range(len(body)):
        changed = bytearray(body)
        changed[at] ^= 1 << (at % 8)
        assert not callback.verify(genuine["headers"], bytes(changed), content["secrets"], content["now"])


NAMED = [adapter for adapter in WITH_CALLBACKS if adapter.callback and adapter.callback.id_header]


@pytest.mark.parametrize("adapter", NAMED, ids=[adapter.name for adapter in NAMED])
def test_the_name_that_a_callback_is_known_by_is_signed(adapter: Adapter) -> None:
    content, callback = fixture(adapter)
    genuine = content["genuine"]
    renamed = {**genuine["headers"], str(callback.id_header): "another"}
    assert renamed != genuine["headers"]
    assert not callback.verify(renamed, genuine["text"].encode(), content["secrets"], content["now"])


@EACH
def test_a_body_that_names_no_order_is_no_news(adapter: Adapter) -> None:
    content, callback = fixture(adapter)
    assert [callback.read(text.encode()) for text in content["unreadable"]] == [None] * len(content["unreadable"])


@EACH
def test_signatures_are_compared_in_constant_time_and_with_every_secret(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where two signatures differ nor which secret is the right one may show in the time taken."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("providers.signing.hmac.compare_digest", compare)
    content, callback = fixture(adapter)
    genuine = content["genuine"]
    for secrets in (content["secrets"], content["secrets"][::-1]):
        compared.clear()
        assert callback.verify(genuine["headers"], genuine["text"].encode(), secrets, content["now"])
        assert len(compared) == len(secrets) == 2


@EACH
def test_a_secret_may_be_any_text(adapter: Adapter) -> None:
    content, callback = fixture(adapter)
    genuine = content["genuine"]
    odd = ["\udcff", "ü", "x" * 10_000, "\0", *content["secrets"]]
    assert callback.verify(genuine["headers"], genuine["text"].encode(), odd, content["now"])


def test_a_runapi_secret_is_taken_as_pages_and_files_have_it() -> None:
    """With a line end, without its padding, in the alphabet for URLs."""
    content, callback = fixture(ADAPTERS["runapi"])
    genuine = content["genuine"]
    secret = content["secrets"][1]
    for written in (f"{secret}\n", f" {secret} ", secret.rstrip("="), secret.replace("+", "-").replace("/", "_")):
        assert callback.verify(genuine["headers"], genuine["text"].encode(), [written], content["now"])
