"""Only genuine callbacks have a valid signature, and any body is handled."""

from typing import Any

import pytest

from providers import ADAPTERS
from providers.adapter import Adapter, CallbackSpec
from tests.contract import fixture_cases

ADAPTERS_WITH_CALLBACKS = [adapter for adapter in ADAPTERS.values() if adapter.callback]
EACH_ADAPTER = pytest.mark.parametrize(
    "adapter", ADAPTERS_WITH_CALLBACKS, ids=[adapter.name for adapter in ADAPTERS_WITH_CALLBACKS]
)


def load_callback_fixture(adapter: Adapter) -> tuple[dict[str, Any], CallbackSpec]:
    content = fixture_cases.load_fixture(adapter.name, "callback")
    assert content is not None
    assert adapter.callback is not None
    return content, adapter.callback


@EACH_ADAPTER
def test_genuine_callback_names_its_order(adapter: Adapter) -> None:
    content, callback = load_callback_fixture(adapter)
    genuine = content["genuine"]
    body = genuine["text"].encode()
    assert callback.verify(genuine["headers"], body, content["secrets"], content["now"])
    assert callback.parse_order_id(body) == genuine["names"]


@EACH_ADAPTER
def test_both_secrets_verify_during_rotation(adapter: Adapter) -> None:
    content, callback = load_callback_fixture(adapter)
    genuine = content["genuine"]
    body = genuine["text"].encode()
    for secrets in (content["secrets"][::-1], content["secrets"][1:]):
        assert callback.verify(genuine["headers"], body, secrets, content["now"])
    assert not callback.verify(genuine["headers"], body, content["secrets"][:1], content["now"])


@EACH_ADAPTER
def test_empty_secrets_verify_nothing(adapter: Adapter) -> None:
    """An empty secret must not become an empty key, with which every sender could sign."""
    content, callback = load_callback_fixture(adapter)
    genuine = content["genuine"]
    for secrets in ([], [""], ["", ""]):
        assert not callback.verify(genuine["headers"], genuine["text"].encode(), secrets, content["now"])


def _parametrize_forged_callbacks() -> list[Any]:
    return [
        pytest.param(adapter, forged, id=f"{adapter.name}-{forged['case']}")
        for adapter in ADAPTERS_WITH_CALLBACKS
        for forged in load_callback_fixture(adapter)[0]["forged"]
    ]


@pytest.mark.parametrize(("adapter", "forged"), _parametrize_forged_callbacks())
def test_forged_callback_is_rejected(adapter: Adapter, forged: dict[str, Any]) -> None:
    content, callback = load_callback_fixture(adapter)
    assert not callback.verify(forged["headers"], forged["text"].encode(), content["secrets"], content["now"])


@EACH_ADAPTER
def test_changing_any_bit_breaks_signature(adapter: Adapter) -> None:
    content, callback = load_callback_fixture(adapter)
    genuine = content["genuine"]
    body = genuine["text"].encode()
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1 << (position % 8)
        assert not callback.verify(genuine["headers"], bytes(changed), content["secrets"], content["now"])


ADAPTERS_WITH_ID_HEADER = [
    adapter for adapter in ADAPTERS_WITH_CALLBACKS if adapter.callback and adapter.callback.id_header
]


@pytest.mark.parametrize("adapter", ADAPTERS_WITH_ID_HEADER, ids=[adapter.name for adapter in ADAPTERS_WITH_ID_HEADER])
def test_callback_id_header_is_signed(adapter: Adapter) -> None:
    content, callback = load_callback_fixture(adapter)
    genuine = content["genuine"]
    changed_headers = {**genuine["headers"], str(callback.id_header): "another"}
    assert changed_headers != genuine["headers"]
    assert not callback.verify(changed_headers, genuine["text"].encode(), content["secrets"], content["now"])


@EACH_ADAPTER
def test_body_without_order_id_is_unreadable(adapter: Adapter) -> None:
    content, callback = load_callback_fixture(adapter)
    assert [callback.parse_order_id(text.encode()) for text in content["unreadable"]] == [None] * len(
        content["unreadable"]
    )


@EACH_ADAPTER
def test_signatures_are_compared_in_constant_time_with_every_secret(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The duration must not reveal where two signatures differ, nor which secret matches."""
    comparisons: list[tuple[bytes, bytes]] = []

    def record_comparison(first: bytes, second: bytes) -> bool:
        comparisons.append((first, second))
        return first == second

    monkeypatch.setattr("providers.callback_signatures.hmac.compare_digest", record_comparison)
    content, callback = load_callback_fixture(adapter)
    genuine = content["genuine"]
    for secrets in (content["secrets"], content["secrets"][::-1]):
        comparisons.clear()
        assert callback.verify(genuine["headers"], genuine["text"].encode(), secrets, content["now"])
        assert len(comparisons) == len(secrets) == 2


@EACH_ADAPTER
def test_secret_may_be_any_text(adapter: Adapter) -> None:
    content, callback = load_callback_fixture(adapter)
    genuine = content["genuine"]
    secrets = ["\udcff", "ü", "x" * 10_000, "\0", *content["secrets"]]
    assert callback.verify(genuine["headers"], genuine["text"].encode(), secrets, content["now"])


def test_runapi_secret_tolerates_whitespace_padding_and_urlsafe_base64() -> None:
    """The secret may have a line end, no padding, or the URL-safe alphabet."""
    content, callback = load_callback_fixture(ADAPTERS["runapi"])
    genuine = content["genuine"]
    secret = content["secrets"][1]
    for spelling in (f"{secret}\n", f" {secret} ", secret.rstrip("="), secret.replace("+", "-").replace("/", "_")):
        assert callback.verify(genuine["headers"], genuine["text"].encode(), [spelling], content["now"])
