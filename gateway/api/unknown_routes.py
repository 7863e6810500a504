"""Error messages for unknown routes, with the most similar known route."""

from collections.abc import Iterable

from gateway.suggestions import did_you_mean

# Routes of URLs that the gateway generates: clients do not build them.
UNLISTED_PREFIXES = ("/callbacks/", "/files/")
# Other paths of listed routes, for other clients.
ALIAS_PREFIXES = ("/openai/", "/images/", "/models", "/responses", "/batches")
# No route is suggested for longer paths.
MAX_PATH_LENGTH = 200


def describe_unknown_route(path: str, routes: Iterable[str]) -> str:
    """Suggests the most similar route, or lists all. `routes`: templates such as /v1/jobs/{job_id}."""
    listed = [route for route in routes if not route.startswith(UNLISTED_PREFIXES)]
    if len(path) <= MAX_PATH_LENGTH:
        path = path.lower()
        suggestion = did_you_mean(path, [_insert_path_id(route, path) for route in listed])
        if suggestion.endswith("?"):
            return f"Route not found{suggestion}"
    main_routes = sorted(route for route in listed if not route.startswith(ALIAS_PREFIXES))
    return f"Route not found. Routes: {', '.join(main_routes)}."


def _insert_path_id(route: str, path: str) -> str:
    """Inserts the last part of the path into the template if it fits: `{job_id}` accepts `job_…`."""
    parts, last = route.split("/"), path.rpartition("/")[2]
    if parts[-1].endswith("_id}") and last.startswith(parts[-1][1:-3]):
        parts[-1] = last
    return "/".join(parts)
