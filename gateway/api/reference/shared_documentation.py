"""Parts of the documentation that several routes share: parameters, headers, error codes and an example image."""

from gateway.api.admin_api import DEFAULT_LIMIT, MAX_LIMIT
from gateway.api.job_wait import MAX_WAIT_SECONDS
from gateway.api.reference.route_documentation import make_header

# A PNG of 64x64 pixels, so that examples of edits can be run as they are.
EXAMPLE_IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAEklEQVR42mP4DwUMo4xRBukMAOPT/hAC2mzjAAAAAElF"
    "TkSuQmCC"
)
ADMIN_LIMIT = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
MAX_WAIT = {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS}
IDEMPOTENCY_KEY = make_header(
    "idempotency-key", "Requests with the same key share one job: a repetition orders nothing.", "5f9c1a02-order-17"
)
PREFER_WAIT = make_header(
    "prefer", f"`wait=N`: waits for the job up to N seconds, at most {MAX_WAIT_SECONDS:.0f}.", "wait=30"
)
JOB_HEADERS = ("x-igw-job-id", "x-igw-attempts", "x-igw-seller", "x-igw-cost-usd", "x-igw-warnings")
POLL_HEADERS = ("retry-after", "openai-poll-after-ms")
INPUT_IMAGE_ERRORS = (
    *("empty_image_file", "image_too_large", "invalid_base64_image", "invalid_form", "invalid_image"),
    *("invalid_image_mode", "invalid_image_url", "too_many_downloads", "unsupported_image_media_type"),
)
ORDER_ERRORS = (
    *("idempotency_key_reused", "invalid_idempotency_key", "insufficient_quota", "model_not_found", "no_offer"),
    *("moderation_blocked", "moderation_unavailable", "rate_limit_exceeded"),
)
FAILED_JOB_ERRORS = (
    *("cancelled", "deadline_exceeded", "images_unavailable", "input_missing", "order_refused"),
    *("outcome_unknown", "paid_not_delivered", "sellers_failed", "sellers_unavailable", "still_running", "withdrawn"),
    "image_deleted",
)
KEY_ERRORS = ("api_key_not_found",)
KEY_CHANGE_ERRORS = (*KEY_ERRORS, "api_key_configured")
