"""Exceptions become errors that do not blame the client for the gateway, nor the gateway for the client."""

from types import SimpleNamespace
from typing import Any

import pytest
from litestar import exceptions

from gateway.api.api_errors import ApiError
from gateway.api.error_translator import ErrorTranslator
from gateway.assets.storage import ObjectNotFound, StorageError, StorageUnavailable
from gateway.events import ErrorReported
from gateway.store.base import (
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreOutcomeUnknown,
    StoreReadOnly,
    StoreUnavailable,
)
from gateway.timeouts_and_intervals import ApiTiming

SECRET = "canary of an upstream body"


def translate(error: Exception) -> tuple[ApiError, list[Any]]:
    events: list[Any] = []
    scope = {
        "method": "POST",
        "path": "/v1/images/generations",
        "state": {"request_id": "req_1", "client_method": "POST"},
    }
    request: Any = SimpleNamespace(scope=scope, method="POST", app=SimpleNamespace(routes=[]))
    return ErrorTranslator(events.append, ApiTiming()).translate(request, error), events


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 413, 415, 422, 429, 431])
def test_error_of_the_framework_keeps_its_status_and_loses_its_text(status: int) -> None:
    error, events = translate(exceptions.HTTPException(detail=SECRET, status_code=status))
    assert error.status == status
    assert SECRET not in error.message
    assert events == []


@pytest.mark.parametrize(
    "error",
    [
        exceptions.InternalServerException(SECRET),
        exceptions.ImproperlyConfiguredException(SECRET),
        exceptions.HTTPException(detail=SECRET, status_code=503),
        RuntimeError(SECRET),
        UnicodeDecodeError("utf-8", b"", 0, 1, SECRET),
    ],
)
def test_bug_is_an_internal_error_that_is_reported(error: Exception) -> None:
    translated, events = translate(error)
    assert (translated.status, translated.code) == (500, "internal_error")
    assert SECRET not in translated.message
    assert [(type(event), event.component, event.request) for event in events] == [(ErrorReported, "api", "req_1")]


@pytest.mark.parametrize(
    ("error", "code", "components"),
    [
        (StoreUnavailable(SECRET), "store_unavailable", []),
        (StoreOutcomeUnknown(SECRET), "store_unavailable", []),
        (StoreFull(SECRET), "store_unavailable", []),
        (StoreReadOnly(SECRET), "store_unavailable", []),
        (StoreMisconfigured(SECRET), "store_unavailable", []),
        (StoreError(SECRET), "store_unavailable", ["store"]),
        (StorageUnavailable(SECRET), "images_unavailable", []),
        (StorageError(SECRET), "images_unavailable", ["storage"]),
    ],
)
def test_failure_of_a_store_can_be_retried(error: Exception, code: str, components: list[str]) -> None:
    translated, events = translate(error)
    assert (translated.status, translated.code, translated.is_retryable) == (503, code, True)
    assert SECRET not in translated.message
    assert [event.component for event in events] == components


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StoreFull(SECRET), "is full"),
        (StoreReadOnly(SECRET), "is read-only"),
        (StoreMisconfigured(SECRET), "might lose jobs"),
        (StoreUnavailable(SECRET), "is unavailable"),
        (StoreOutcomeUnknown(SECRET), "is unavailable"),
    ],
)
def test_client_reads_what_is_wrong_with_the_store(error: Exception, words: str) -> None:
    translated, _ = translate(error)
    assert translated.message.startswith("The job store ")
    assert words in translated.message
    assert translated.message.endswith(" Retry the request.")


def test_deleted_image_is_gone() -> None:
    translated, events = translate(ObjectNotFound(SECRET))
    assert (translated.status, translated.code, events) == (410, "image_deleted", [])
