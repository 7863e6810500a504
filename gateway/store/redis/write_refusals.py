"""Explains why Redis refuses to write, and says what to change."""

from gateway.store.inspection import StoreProblem

FULL = StoreProblem("Redis has no memory left for new jobs.", "Raise maxmemory, or wait until old jobs expire.")
_PROBLEMS = {
    "OOM": FULL,
    "READONLY": StoreProblem(
        "Redis is a read-only replica.",
        "Let REDIS_URL lead to the primary, or to Sentinels with redis+sentinel://.",
        loses_jobs=True,
    ),
    "NOREPLICAS": StoreProblem(
        "Redis refuses to write: it has fewer replicas than its min-replicas-to-write.",
        "Start the replicas, or lower min-replicas-to-write.",
        loses_jobs=True,
    ),
    "MISCONF": StoreProblem(
        "Redis refuses to write: it could not write to its own disk.",
        "Make room on that disk, or repair it. The log of Redis has the cause.",
        loses_jobs=True,
    ),
}


def find_write_refusal(error: BaseException | None) -> StoreProblem | None:
    """Returns the problem if this error, or one that caused it, says that the server refuses to write; else None."""
    while error is not None:
        if problem := _PROBLEMS.get(_get_code(error)):
            return problem
        error = error.__cause__
    return None


def _get_code(error: BaseException) -> str:
    """Returns the code of a server's error. The driver leaves codes without an exception class in the text."""
    return getattr(error, "status_code", None) or str(error).partition(" ")[0]
