"""The verifiers of receivers accept the gateway's signatures, and nothing else."""

import base64
import json
import time

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.config.signing_secrets import decode_signing_secret
from gateway.config.value_types import Secret
from gateway.webhooks.signature import build_signed_headers
from tests.unit.webhooks.webhook_world import OLD_SECRET, SECRET

DELIVERY_ID = "delivery_" + "a" * 28
BODY = json.dumps(
    {
        "id": DELIVERY_ID,
        "object": "event",
        "type": "job.completed",
        "created_at": 1_790_000_000,
        "timestamp": "2026-09-21T13:33:20Z",
        "data": {"id": "job_1", "object": "job", "status": "completed", "name": "ünï"},
    }
).encode()


def sign(*secrets: Secret, at: float | None = None) -> dict[str, str]:
    return build_signed_headers(DELIVERY_ID, time.time() if at is None else at, BODY, secrets)


def test_standard_webhooks_verifies() -> None:
    assert Webhook(SECRET.reveal()).verify(BODY, sign(SECRET)) == json.loads(BODY)


def test_openai_verifies_and_unwraps() -> None:
    client = OpenAI(api_key="unused", webhook_secret=SECRET.reveal())
    event = client.webhooks.unwrap(BODY, sign(SECRET))
    assert (event.id, event.type) == (DELIVERY_ID, "job.completed")


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET], ids=["new", "old"])
def test_during_a_rotation_either_secret_verifies(secret: Secret) -> None:
    headers = sign(SECRET, OLD_SECRET)
    assert len(headers["webhook-signature"].split()) == 2
    Webhook(secret.reveal()).verify(BODY, headers)
    OpenAI(api_key="unused").webhooks.verify_signature(BODY, headers, secret=secret.reveal())


def test_other_secret_other_body_and_old_time_are_refused() -> None:
    openai = OpenAI(api_key="unused", webhook_secret=SECRET.reveal())
    cases = [
        (BODY, sign(OLD_SECRET)),
        (BODY + b" ", sign(SECRET)),
        (BODY, sign(SECRET) | {"webhook-id": DELIVERY_ID.upper()}),
        (BODY, sign(SECRET, at=time.time() - 600)),
        (BODY, sign(SECRET, at=time.time() + 600)),
    ]
    for body, headers in cases:
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET.reveal()).verify(body, headers)
        with pytest.raises(InvalidWebhookSignatureError):
            openai.webhooks.verify_signature(body, headers)


def test_matches_the_example_of_standard_webhooks() -> None:
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = build_signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}', [secret])
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("whsec_" + base64.b64encode(bytes(24)).decode(), True),
        ("whsec_" + base64.b64encode(bytes(64)).decode(), True),
        ("whsec_" + base64.b64encode(bytes(23)).decode(), False),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), False),
        (base64.b64encode(bytes(32)).decode(), False),
        ("whsec_not base64", False),
        ("whsec_", False),
    ],
)
def test_signing_secret_has_the_form_of_standard_webhooks(text: str, is_valid: bool) -> None:
    assert (decode_signing_secret(Secret(text)) is not None) == is_valid
