"""The headers that describe rate limits: OpenAI's, and those of the IETF draft (RateLimit, RateLimit-Policy)."""

from collections.abc import Iterable
from math import ceil

from gateway.access.rate_limiter import Dimension, LimitStatus

RawHeader = tuple[bytes, bytes]
# OpenAI has headers for requests and tokens; here images are counted.
OPENAI_DIMENSIONS: tuple[Dimension, ...] = ("requests", "images")
_POLICY_PARAMETERS: dict[Dimension, str] = {
    "requests": ";w=60",
    "images": ';qu="images";w=60',
    "jobs": ';qu="concurrent-requests"',
}


def build_rate_limit_headers(statuses: Iterable[LimitStatus]) -> list[RawHeader]:
    """Builds both families of headers; none without limits.

    OpenAI's headers can show only one limit: that of the key or of its team, whichever has less left.
    """
    statuses = list(statuses)
    if not statuses:
        return []
    headers = {
        "ratelimit-policy": ", ".join(map(_format_policy, statuses)),
        "ratelimit": ", ".join(map(_format_remaining, statuses)),
    }
    for dimension in OPENAI_DIMENSIONS:
        if candidates := [status for status in statuses if status.dimension == dimension]:
            tightest = min(candidates, key=lambda status: status.remaining)
            headers |= {
                f"x-ratelimit-limit-{dimension}": str(tightest.limit),
                f"x-ratelimit-remaining-{dimension}": str(tightest.remaining),
                f"x-ratelimit-reset-{dimension}": format_go_duration(tightest.reset_seconds),
            }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _format_policy(status: LimitStatus) -> str:
    return f'"{_get_name(status)}";q={status.limit}{_POLICY_PARAMETERS[status.dimension]}'


def _format_remaining(status: LimitStatus) -> str:
    seconds = f";t={ceil(status.more_seconds)}" if status.more_seconds else ""
    return f'"{_get_name(status)}";r={status.remaining}{seconds}'


def _get_name(status: LimitStatus) -> str:
    """Returns a name like `team-requests`. It does not contain the name of the team, which may not be ASCII."""
    return f"{status.owner.partition(':')[0]}-{status.dimension}"


def format_go_duration(seconds: float) -> str:
    """Formats seconds as Go does, as in OpenAI's headers: 120ms, 17s, 1m30s."""
    if 0 < seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    minutes, rest = divmod(ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
