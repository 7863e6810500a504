"""Answers to requests for unknown routes, with the nearest known one."""

from collections.abc import Iterable

from gateway.suggestions import did_you_mean

# Clients never type these by hand.
UNLISTED_PREFIXES = ("/callbacks/", "/files/")
# What is longer resembles no route.
MAX_PATH_LENGTH = 200


def describe_unknown_route(path: str, routes: Iterable[str]) -> str:
    """Names the route that was probably meant, or those that there are. `routes`: templates, like /v1/jobs/{job_id}."""
    listed = [route for route in routes if not route.startswith(UNLISTED_PREFIXES)]
    if len(path) <= MAX_PATH_LENGTH:
        path = path.lower()
        suggestion = did_you_mean(path, [_insert_path_id(route, path) for route in listed])
        if suggestion.endswith("?"):
            return f"There is no such route{suggestion}"
    return f"There is no such route; there are {', '.join(sorted(listed))}."


def _insert_path_id(route: str, path: str) -> str:
    """With the id of the path in it, if it ends with one: `{job_id}` stands for what begins with `job_`."""
    parts, last = route.split("/"), path.rpartition("/")[2]
    if parts[-1].endswith("_id}") and last.startswith(parts[-1][1:-3]):
        parts[-1] = last
    return "/".join(parts)
