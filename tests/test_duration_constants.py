"""Times of the gateway are fields of `Timing`. Those that stay constants have one of the reasons of the decision on
timing, and no test replaces them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DURATION = re.compile(r"_?(?:[A-Z0-9]+_)*(?:SECONDS|TIMEOUTS?|INTERVALS?|DELAYS?|TTL|BACKOFFS?)(?:_[A-Z0-9]+)*")
# Calls in which a task or a thread waits, and the position of the time.
WAITING_CALLS = {"sleep": 0, "timeout": 0, "call_later": 0, "wait_for": 1}
# By the reason of the decision on timing. Commands have times of their own: a person waits.
CONSTANTS = {
    "units and factors": """
        components.MONTH_SECONDS config.retention_schema.DAY_SECONDS store.base.DAY_SECONDS
        health.rolling_stats.MINUTE_SECONDS engine.engine.MAX_SUSPECT_INTERVALS engine.poll_schedule.BACKOFF_FACTOR
        engine.result_fetcher.BACKOFF_FACTOR store.webhook_targets._DUE_IN_SECONDS
        store.redis.codec._STATE_SECONDS
    """,
    "sent to clients": """
        access.rate_limiter.SHARE_RETRY_SECONDS access.rate_limiter.JOB_RETRY_SECONDS
        access.rate_limiter.MAX_RETRY_SECONDS api.api_errors.MIN_RETRY_AFTER_SECONDS
        api.api_errors.MAX_RETRY_AFTER_SECONDS api.base64_image_output.MEMORY_RETRY_SECONDS
        api.batches.batches_api.OPEN_BATCH_RETRY_SECONDS api.budget_refusal.MAX_ADVISED_SECONDS
        api.budget_refusal.HELD_RELEASE_SECONDS api.cors_headers.PREFLIGHT_TTL_SECONDS
        api.earlier_images.RUNNING_RETRY_SECONDS api.incoming_body_limiter.MEMORY_RETRY_SECONDS
        api.input_images.DOWNLOAD_RETRY_SECONDS api.job_deletion.UNSETTLED_RETRY_SECONDS
        api.job_submission.STORAGE_RETRY_SECONDS api.job_submission.MODERATION_RETRY_SECONDS
        api.job_wait.MAX_WAIT_SECONDS api.json_responses.MAX_RETRY_AFTER_SECONDS api.serializers.URL_TTL_SECONDS
        api.server_error_responses.SHUTDOWN_RETRY_SECONDS jobs.seller_retry_times.MIN_CLIENT_WAIT_SECONDS
        jobs.seller_retry_times.MAX_CLIENT_WAIT_SECONDS
    """,
    "retention of stored data, read by all replicas": """
        access.budget_administration.LATE_MONEY_SECONDS access.budget_threshold_announcer.RETENTION_SECONDS
        api.batches.batch_records.BATCH_TTL_SECONDS api.batches.deleted_records.MARK_TTL_SECONDS
        api.batches.file_records.DEFAULT_TTL_SECONDS api.batches.file_records.UPLOAD_TTL_SECONDS
        api.idempotency_record_builder.IDEMPOTENCY_KEY_TTL_SECONDS api.webhooks.webhooks_api.CLOCK_MARGIN_SECONDS
        catalogue.DRAINING_TTL_SECONDS jobs.commit.BODY_KEY_TTL_SECONDS
        ledger.reconciliation.MAX_ORDER_AGE_SECONDS ledger.reconciliation.SETTLING_SECONDS
        ledger.reconciliation_runner.RETENTION_MARGIN_SECONDS ledger.reconciliation_runner.UNCHANGED_AFTER_SECONDS
        store.base.MIN_BUDGET_SECONDS
        store.base.SIGNAL_TTL_SECONDS store.base.CLOSED_MARK_TTL_SECONDS store.redis.partition_auditor.AUDIT_TTL_SECONDS
        store.statistics.HEARTBEAT_TTL_SECONDS store.team_retention._MONTH_SECONDS
    """,
    "windows and tolerances, compared between replicas": """
        access.rate_limiter.WINDOW_SECONDS access.rate_limiter.BUCKET_SECONDS
        access.rate_limiter.REPLICA_TTL_SECONDS access.rate_limiter.BATCH_PAUSE_SECONDS
        health.account_and_cell_health.WINDOW_SECONDS health.charged_prices.CHARGE_WINDOW_SECONDS
        health.circuit_breaker.MAX_SEND_TIME_ERROR_SECONDS health.rolling_stats.LATENCY_WINDOW_SECONDS
        health.rolling_stats.MIN_LATENCY_SECONDS health.rolling_stats.MAX_LATENCY_SECONDS
        health.rolling_stats.DELIVERY_WINDOW_SECONDS
        routing.ranking.SIMILAR_SECONDS webhooks.send_slots.FIRST_SECONDS
    """,
    "bounds and defaults of options, and of times that others set": """
        access.key_requests.MAX_DURATION_SECONDS config.timing_options.MAX_ORDER_SECONDS
        jobs.seller_retry_times.MAX_RETRY_AFTER_SECONDS store.base.MAX_LEASE_SECONDS
        timeouts_and_intervals.MAX_OPEN_SECONDS upstream.transport.DEFAULT_CONNECT_TIMEOUT_SECONDS
        webhooks.webhook_records.MAX_RETRY_AFTER_SECONDS
    """,
    "of a command": "ledger.charge_list_reader.TIMEOUT_SECONDS",
}
ENVIRONMENT_PREFIXES = ("IGW_", "OTEL_")
# Retention is counted in days by the configuration, of which tests cannot wait for one.
FILES_WITH_SHORT_DAYS = {"short_retention.py"}
ALLOWED = [name for names in CONSTANTS.values() for name in names.split()]
MODULES = {
    ".".join(path.relative_to(ROOT / "gateway").with_suffix("").parts): path
    for path in sorted((ROOT / "gateway").rglob("*.py"))
    if "commands" not in path.parts
}


def iterate_constants(source: str) -> Iterator[str]:
    """Yields the names of a module's and its classes' constants whose values are durations."""
    for scope in ast.walk(ast.parse(source)):
        for statement in scope.body if isinstance(scope, ast.Module | ast.ClassDef) else ():
            match statement:
                case ast.Assign(targets=[target], value=value):
                    yield from (name for name in iterate_names(target) if DURATION.fullmatch(name) and is_number(value))
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    yield from (name for name in iterate_names(target) if DURATION.fullmatch(name) and is_number(value))


def iterate_names(target: ast.expr) -> Iterator[str]:
    return (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def is_number(value: ast.expr) -> bool:
    """Returns whether an expression consists of numbers, and of constants that have names."""
    nodes = [node for node in ast.walk(value) if isinstance(node, ast.expr)]
    kinds = ast.Constant | ast.BinOp | ast.UnaryOp | ast.Name | ast.Attribute | ast.Tuple | ast.List
    return all(isinstance(node, kinds) for node in nodes) and not any(
        isinstance(node, ast.Constant) and not isinstance(node.value, int | float) for node in nodes
    )


def iterate_fixed_waits(source: str) -> Iterator[str]:
    """Yields the calls that wait for a number, or for a constant."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func).rpartition(".")[2]
        position = WAITING_CALLS.get(name)
        times = call.args[position : position + 1] if position is not None else []
        if name in {"wait", "join", "timeout", "wait_for"}:
            times += [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
        yield from (ast.unparse(call) for time in times if is_number(time) and is_fixed(time))


def is_fixed(time: ast.expr) -> bool:
    return any(
        (isinstance(node, ast.Constant) and node.value) or (isinstance(node, ast.Name) and node.id.isupper())
        for node in ast.walk(time)
    )


def iterate_replaced_durations(source: str) -> Iterator[str]:
    """Yields the places where a duration of a module may be replaced: its name in a text, and assignments to it.

    Environment variables are something else.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=str(text)) if is_name_of_constant(text):
                yield text
            case ast.Attribute(attr=name, ctx=ast.Store()) if DURATION.fullmatch(name):
                yield ast.unparse(node)


def is_name_of_constant(text: str) -> bool:
    return DURATION.fullmatch(text.rpartition(".")[2]) is not None and not text.startswith(ENVIRONMENT_PREFIXES)


def test_constants_are_those_with_a_reason() -> None:
    found = {f"{module}.{name}" for module, path in MODULES.items() for name in iterate_constants(path.read_text())}
    assert found - set(ALLOWED) == set(), "make it a field of Timing; docs/decisions/2026-11-27-timing.md has the rule"
    assert set(ALLOWED) - found == set()
    assert len(set(ALLOWED)) == len(ALLOWED)


def test_gateway_waits_for_no_fixed_time() -> None:
    assert {
        module: calls for module, path in MODULES.items() if (calls := list(iterate_fixed_waits(path.read_text())))
    } == {}


def test_no_test_replaces_a_duration() -> None:
    paths = [path for folder in ("tests", "bench") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 100
    assert {
        path.name: names
        for path in paths
        if path != Path(__file__)
        and path.name not in FILES_WITH_SHORT_DAYS
        and (names := list(iterate_replaced_durations(path.read_text())))
    } == {}


@pytest.mark.parametrize(
    "source",
    [
        "RETRY_SECONDS = 5",
        "FIRST_SECONDS, COUNT = 0.5, 3",
        "class Worker:\n    STOP_TIMEOUT: float = 3 * 60.0",
        "_RETRY_DELAYS = (1.0, 2.0)",
        "MAX_AGE_SECONDS = 2 * base.DAY_SECONDS",
    ],
)
def test_new_constant_is_found(source: str) -> None:
    assert len(list(iterate_constants(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "asyncio.sleep(0.5)",
        "sleep(RETRY_SECONDS)",
        "asyncio.timeout(2 * RETRY_SECONDS)",
        "asyncio.wait_for(task, 3)",
        "asyncio.wait(tasks, timeout=0.5)",
        "loop.call_later(1.0, stop)",
        "thread.join(timeout=5)",
    ],
)
def test_new_fixed_wait_is_found(source: str) -> None:
    assert list(iterate_fixed_waits(source)) == [source]


@pytest.mark.parametrize("source", ["asyncio.sleep(0)", "asyncio.sleep(self._timing.retry_seconds)", "','.join(NAMES)"])
def test_other_call_is_not_found(source: str) -> None:
    assert list(iterate_fixed_waits(source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "monkeypatch.setattr(module, 'RETRY_SECONDS', 1)",
        "monkeypatch.setattr('gateway.module.STOP_TIMEOUT', 1)",
        "module.RETRY_DELAYS = ()",
        "replacements = ((module, 'RETRY_DELAYS_SECONDS', DELAYS),)",
    ],
)
def test_new_replacement_is_found(source: str) -> None:
    assert len(list(iterate_replaced_durations(source))) == 1
