"""The findings of checks, as data."""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

# Shorter texts are parts of usual words.
MIN_SECRET_LENGTH = 5


class Status(StrEnum):
    """How a check ended. Only `failed` makes the command fail."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILED = "failed"

    @property
    def severity(self) -> int:
        return list(Status).index(self)


class DoctorFinding(Struct, frozen=True):
    """One result of one check. `remedy`: what to change; empty if there is nothing to do."""

    check: str
    status: Status
    message: str
    remedy: str = ""


def summarize_findings(findings: Sequence[DoctorFinding]) -> Status:
    """Returns the worst status."""
    return max((finding.status for finding in findings), key=lambda status: status.severity, default=Status.OK)


def redact_findings(findings: Iterable[DoctorFinding], secrets: Iterable[str]) -> list[DoctorFinding]:
    """Replaces every secret in the texts. No check prints one; an error of a library or a seller might."""
    known = sorted((secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH), key=len, reverse=True)

    def redact(text: str) -> str:
        for secret in known:
            text = text.replace(secret, "(hidden)")
        return text

    return _map_texts(findings, redact)


def _map_texts(findings: Iterable[DoctorFinding], function: Callable[[str], str]) -> list[DoctorFinding]:
    return [
        replace(finding, message=function(finding.message), remedy=function(finding.remedy)) for finding in findings
    ]


def findings_to_json(findings: Sequence[DoctorFinding]) -> str:
    report: dict[str, Any] = {"status": summarize_findings(findings), "findings": findings}
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
