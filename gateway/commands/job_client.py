"""The client of the command line: jobs of a running gateway, with retries that survive its restart."""

import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import click
import httpx
import msgspec
from msgspec import Struct

from gateway.commands.exit_codes import CommandFailed, ExitCode
from gateway.commands.job_report import JobImage, JobReport

# The key that `serve --sandbox` accepts. It is the default only where the gateway runs on this machine.
SANDBOX_KEY = "igw_sandbox"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
# The limit of the gateway for bodies with images.
MAX_BODY_BYTES = 64 << 20
# For a gateway that has not responded yet: its URL may be wrong, or it may be starting.
FIRST_CONTACT_SECONDS = 5.0
RESPONSE_TIMEOUT_SECONDS = 60.0
MIN_RETRY_DELAY_SECONDS, MAX_RETRY_DELAY_SECONDS = 0.2, 10.0
MAX_POLL_WAIT_SECONDS = 5
MAX_DOWNLOADS = 3
_TRANSIENT_STATUSES = (408, 429, 502, 503, 504)
Notify = Callable[[str], None]
Json = dict[str, Any]


class GatewayConnection(Struct, frozen=True, kw_only=True):
    """Which gateway to use, and how patiently. `deadline`: a time of the monotonic clock."""

    url: str
    key: str | None = None
    retry_seconds: float = 120.0
    deadline: float = float("inf")

    @property
    def base_url(self) -> str:
        return self.url.rstrip("/").removesuffix("/v1")

    @property
    def is_local(self) -> bool:
        return urlsplit(self.url).hostname in LOCAL_HOSTS

    def require_key(self) -> str:
        key = self.key or (SANDBOX_KEY if self.is_local else None)
        if not key:
            raise click.UsageError("Missing API key: set --key or IGW_KEY")
        return key


class FetchedJob(Struct, frozen=True):
    """A job as the gateway sent it. `content`: the whole JSON."""

    report: JobReport
    content: bytes


class JobClient:
    """Sends requests to the gateway. Each method raises CommandFailed or UsageError, whose message says what to do.

    While the gateway is unreachable or busy, a request is repeated for `retry_seconds`: GET requests are harmless, and
    a repeated POST finds its first effect. `notify` receives a line when that begins.

    `may_have_job`: whether the gateway may have accepted a job whose id it has not confirmed.
    """

    def __init__(self, connection: GatewayConnection, notify: Notify) -> None:
        self._connection, self._notify = connection, notify
        self.may_have_job = False
        self._has_sent = False
        headers = {"authorization": f"Bearer {connection.require_key()}", "user-agent": "image-gateway-cli"}
        # A proxy of the environment is for other hosts than this one.
        self._http = httpx.Client(
            headers=headers, timeout=RESPONSE_TIMEOUT_SECONDS, trust_env=not connection.is_local, follow_redirects=False
        )

    def submit_job(self, body: Json, idempotency_key: str) -> FetchedJob:
        """Creates the job, or returns the one that an earlier request with this key created."""
        content = encode_body(body)
        headers = {"idempotency-key": idempotency_key, "content-type": "application/json"}
        return _parse_job(self._send("POST", "/jobs", content=content, headers=headers))

    def fetch_quote(self, body: Json) -> httpx.Response:
        """Returns the response of `POST /v1/quotes`, which plans the request and orders nothing."""
        headers = {"content-type": "application/json"}
        return self._send("POST", "/quotes", content=encode_body(body), headers=headers)

    def fetch_job(self, job_id: str, wait_seconds: int = 0) -> FetchedJob:
        """Returns the job when it has ended, or after the wait."""
        params = {"wait": str(wait_seconds)} if wait_seconds else {}
        timeout = RESPONSE_TIMEOUT_SECONDS + wait_seconds
        return _parse_job(self._send("GET", f"/jobs/{quote(job_id, safe='')}", params=params, timeout=timeout))

    def cancel_job(self, job_id: str) -> FetchedJob:
        return _parse_job(self._send("POST", f"/jobs/{quote(job_id, safe='')}/cancel"))

    def wait_for_job(self, job: FetchedJob, on_change: Callable[[JobReport], None]) -> FetchedJob:
        """Polls the job until it has ended. Calls `on_change` with every state in between."""
        started_at = time.monotonic()
        while not job.report.has_ended:
            on_change(job.report)
            polled_at = time.monotonic()
            self._require_time()
            job = self.fetch_job(job.report.id, self._choose_wait(polled_at - started_at))
            if not job.report.has_ended and (rest := polled_at + MIN_RETRY_DELAY_SECONDS - time.monotonic()) > 0:
                time.sleep(rest)
        return job

    def download_image(self, image: JobImage) -> bytes:
        """Returns the bytes of the image. Repeats the download if they do not match the job."""
        address = urlsplit(image.url)
        url = f"{self._connection.base_url}{address.path}?{address.query}"
        for _ in range(MAX_DOWNLOADS):
            data = self._send("GET", url).content
            if sha256(data).hexdigest() == image.sha256:
                return data
        message = f"Image {image.index} was downloaded {MAX_DOWNLOADS} times, and differs from the job's sha256"
        raise CommandFailed(ExitCode.ERROR, message)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Returns the JSON of any other route below /v1."""
        response = self._send(method, path, **options)
        try:
            return msgspec.json.decode(response.content)
        except (msgspec.MsgspecError, ValueError):
            raise _invalid_response_error(response) from None

    def _choose_wait(self, elapsed_seconds: float) -> int:
        """Chooses how long the gateway may wait for the end of the job before it reports the state."""
        wait_seconds = min(MAX_POLL_WAIT_SECONDS, 1 + elapsed_seconds / 10)
        return max(1, int(min(wait_seconds, self._connection.deadline - time.monotonic())))

    # --- requests and retries

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Sends the request until it has a final response, and returns it if it is successful."""
        url = path if path.startswith("http") else f"{self._connection.base_url}/v1{path}"
        started_at, delay, is_waiting = time.monotonic(), MIN_RETRY_DELAY_SECONDS, False
        while True:
            outcome = self._try_once(method, url, options)
            if isinstance(outcome, httpx.Response) and not _is_transient(outcome):
                return self._require_success(outcome)
            self._require_patience(outcome, started_at)
            if not is_waiting:
                self._notify(f"{self._describe(outcome)} Retrying.")
            delay, is_waiting = min(delay * 2, MAX_RETRY_DELAY_SECONDS), True
            self._sleep(_get_retry_after(outcome) or delay)

    def _try_once(self, method: str, url: str, options: Mapping[str, Any]) -> httpx.Response | httpx.HTTPError:
        may_have_job = self.may_have_job
        try:
            response = self._http.request(method, url, extensions={"trace": self._on_transport_event}, **options)
        except httpx.HTTPError as error:
            return error
        if response.status_code < 500 and not response.is_success:
            self.may_have_job = may_have_job
        return response

    def _on_transport_event(self, name: str, info: Mapping[str, Any]) -> None:
        """Notes that a request is being sent: it may be processed. The one to a proxy that connects does not count."""
        if name.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
            self._has_sent = self.may_have_job = True

    def _require_patience(self, outcome: httpx.Response | httpx.HTTPError, started_at: float) -> None:
        """Raises CommandFailed when the request has been repeated for long enough."""
        self._require_time()
        limit = self._connection.retry_seconds
        limit = limit if self._has_sent else min(limit, FIRST_CONTACT_SECONDS)
        if time.monotonic() - started_at < limit:
            return
        if isinstance(outcome, httpx.Response):
            raise _refusal_error(outcome, ExitCode.REFUSED if outcome.status_code < 500 else ExitCode.UNREACHABLE)
        advice = "" if self._has_sent else " Is the gateway running? Set its address with --url or IGW_URL."
        raise CommandFailed(ExitCode.UNREACHABLE, self._describe(outcome) + advice)

    def _require_time(self) -> None:
        if time.monotonic() >= self._connection.deadline:
            raise CommandFailed(ExitCode.TIMED_OUT, "Timed out.")

    def _sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, min(seconds, self._connection.deadline - time.monotonic())))

    def _describe(self, outcome: httpx.Response | httpx.HTTPError) -> str:
        if isinstance(outcome, httpx.HTTPError):
            return f"{self._connection.base_url} is unreachable ({type(outcome).__name__})."
        return _get_message(outcome) or f"{self._connection.base_url} responded {outcome.status_code}."

    def _require_success(self, response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        if response.status_code == 401 and self._connection.key is None:
            message = f"{self._connection.base_url} rejected the sandbox's key. Set your team's with --key or IGW_KEY."
            raise CommandFailed(ExitCode.REFUSED, message)
        if response.next_request is not None:
            target = response.next_request.url.copy_with(raw_path=b"/")
            message = f"{self._connection.base_url} redirects to {target}: set --url or IGW_URL to the gateway itself"
            raise CommandFailed(ExitCode.ERROR, message)
        _raise_refusal(response)


def encode_body(body: Json) -> bytes:
    """Encodes the request. Raises UsageError if it is not Unicode, or larger than the gateway accepts."""
    try:
        content = msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise click.UsageError("The prompt or an option is not valid Unicode text") from None
    if len(content) > MAX_BODY_BYTES:
        message = (
            f"The images are {len(content) >> 20} MiB as base64, and the gateway accepts {MAX_BODY_BYTES >> 20} MiB. "
            "Scale or compress them, or give their URLs"
        )
        raise click.UsageError(message)
    return content


def _parse_job(response: httpx.Response) -> FetchedJob:
    try:
        return FetchedJob(msgspec.json.decode(response.content, type=JobReport), response.content)
    except (msgspec.MsgspecError, ValueError):
        raise _invalid_response_error(response) from None


def _is_transient(response: httpx.Response) -> bool:
    """Returns whether the same request may succeed soon. The gateway says so; a proxy before it does not."""
    is_refused = response.headers.get("x-should-retry") == "false"
    return response.status_code in _TRANSIENT_STATUSES and not is_refused


def _get_retry_after(outcome: httpx.Response | httpx.HTTPError) -> float | None:
    text = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    return float(text[:4]) if text.isascii() and text.isdigit() else None


def _get_message(response: httpx.Response) -> str | None:
    """Returns the message of the gateway's error body."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return None


def _raise_refusal(response: httpx.Response) -> NoReturn:
    code = ExitCode.REFUSED if 400 <= response.status_code < 500 else ExitCode.ERROR
    raise _refusal_error(response, code)


def _refusal_error(response: httpx.Response, exit_code: ExitCode) -> CommandFailed:
    message = _get_message(response)
    return CommandFailed(exit_code, message) if message else _invalid_response_error(response)


def _invalid_response_error(response: httpx.Response) -> CommandFailed:
    message = f"{response.url.netloc.decode()} sent an invalid response ({response.status_code}). "
    return CommandFailed(ExitCode.ERROR, message + "Is it an image-gateway of this version?")
