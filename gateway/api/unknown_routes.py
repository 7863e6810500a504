"""Answers to requests for unknown routes, with the nearest known one."""

from collections.abc import Iterable

from gateway.config.checking import did_you_mean

# Clients never type these by hand.
UNNAMED = ("/callbacks/", "/files/")
# What is longer resembles no route.
LONGEST_PATH = 200


def describe_unknown_route(path: str, routes: Iterable[str]) -> str:
    """Names the route that was probably meant, or those that there are. `routes`: templates, like /v1/jobs/{job_id}."""
    named = [route for route in routes if not route.startswith(UNNAMED)]
    if len(path) <= LONGEST_PATH:
        path = path.lower()
        words = did_you_mean(path, [_fill(route, path) for route in named])
        if words.endswith("?"):
            return f"There is no such route{words}"
    return f"There is no such route; there are {', '.join(sorted(named))}."


def _fill(route: str, path: str) -> str:
    """With the id of the path in it, if it ends with one: `{job_id}` stands for what begins with `job_`."""
    parts, last = route.split("/"), path.rpartition("/")[2]
    if parts[-1].endswith("_id}") and last.startswith(parts[-1][1:-3]):
        parts[-1] = last
    return "/".join(parts)
