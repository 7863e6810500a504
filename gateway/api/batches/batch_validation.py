"""Validates all lines of a batch before anything is ordered, and estimates its cost."""

import asyncio
from collections.abc import AsyncIterator

from msgspec import Struct

from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.api.batches.batch_line_submission import LineQuote, parse_line, quote_line
from gateway.api.batches.batch_records import Batch, BatchError, Estimate
from gateway.api.batches.file_content import InputLine
from gateway.money import format_usd

MAX_LINES = 50_000


class ValidationResult(Struct, frozen=True):
    """The number of lines, their cost, and everything that is wrong with them. Without errors, the batch may start."""

    total: int
    estimate: Estimate
    errors: tuple[BatchError, ...]


class BatchValidator:
    """Validates one batch."""

    def __init__(self, context: ApiContext, batch: Batch) -> None:
        self._context, self._batch = context, batch
        self._errors: list[BatchError] = []
        # The number of the first line with each custom id.
        self._lines_by_custom_id: dict[str, int] = {}
        self._total = self._cost = self._ceiling = 0

    async def validate(self, lines: AsyncIterator[InputLine]) -> ValidationResult:
        async for line in lines:
            self._total += 1
            if self._total > MAX_LINES:
                message = f"The file has more than {MAX_LINES:,} lines. Split it into several batches."
                self._errors = [BatchError(code="too_many_lines", message=message, line=line.number)]
                break
            await self._validate_line(line)
            # Lets other tasks run between two lines.
            await asyncio.sleep(0)
        self._check_whole()
        return ValidationResult(self._total, Estimate(cost=self._cost, ceiling=self._ceiling), tuple(self._errors))

    async def _validate_line(self, line: InputLine) -> None:
        try:
            quote = await self._quote_line(line)
        except ApiError as error:
            self._errors.append(make_line_error(error, line.number))
        else:
            self._cost += quote.cost
            self._ceiling += quote.ceiling

    async def _quote_line(self, line: InputLine) -> LineQuote:
        parsed = await parse_line(self._context, self._batch, line)
        first = self._lines_by_custom_id.setdefault(parsed.custom_id, line.number)
        if first != line.number:
            message = f"Duplicate custom_id: line {first} has the same. Give each line its own."
            raise ApiError(400, "duplicate_custom_id", message, param="custom_id")
        return await quote_line(self._context, parsed)

    def _check_whole(self) -> None:
        if not self._total:
            message = "The file has no lines. Write one JSON object on each line."
            self._errors.append(BatchError(code="empty_file", message=message))
        max_cost = self._batch.max_cost
        if not self._errors and max_cost is not None and self._cost > max_cost:
            message = (
                f"The estimated cost of ${format_usd(self._cost)} is above max_cost of ${format_usd(max_cost)}. "
                "Raise max_cost, or send fewer lines."
            )
            self._errors.append(BatchError(code="max_cost_exceeded", message=message, param="max_cost"))


def make_line_error(error: ApiError, number: int) -> BatchError:
    return BatchError(code=error.code, message=error.message, param=error.param, line=number)
