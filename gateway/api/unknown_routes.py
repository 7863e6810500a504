"""Error messages for unknown routes, with the most similar known route."""

from collections.abc import Iterable

from gateway.api.api_errors import find_other_openai_api, merge_slashes
from gateway.suggestions import find_similar

# Routes of URLs that the gateway generates: clients do not build them.
UNLISTED_PREFIXES = ("/callbacks/", "/files/")
# Other paths of listed routes, for other clients.
ALIAS_PREFIXES = ("/openai/", "/images/", "/models", "/responses", "/batches")
IMAGE_ROUTES = (
    *("/v1/images/generations", "/v1/images/edits", "/v1/responses with the tool image_generation"),
    *("/v1/jobs", "/v1/quotes", "/v1/batches", "/v1/models"),
)
# No route is suggested for longer paths.
MAX_PATH_LENGTH = 200
# Routes of other purposes are less similar: /v1/images/edits and /v1/embeddings have 0.6.
MIN_SIMILARITY = 0.8


def describe_unknown_route(path: str, routes: Iterable[str]) -> str:
    """Suggests a similar route, or lists all. `routes`: templates such as /v1/jobs/{job_id}."""
    listed = [route for route in routes if not route.startswith(UNLISTED_PREFIXES)]
    main_routes = sorted(route for route in listed if not route.startswith(ALIAS_PREFIXES))
    path = merge_slashes(path[: MAX_PATH_LENGTH + 1]).lower()
    if api := find_other_openai_api(path):
        return f"This gateway serves images only, and has no route for '{api}'. Routes: {', '.join(IMAGE_ROUTES)}."
    if len(path) <= MAX_PATH_LENGTH and (similar := _find_similar_route(path, listed)):
        return f"Route not found; did you mean '{similar}'?"
    return f"Route not found. Routes: {', '.join(main_routes)}."


def _find_similar_route(path: str, routes: Iterable[str]) -> str | None:
    """Finds a route that is similar to the path, or to the path with the version."""
    candidates = [_insert_path_id(route, path) for route in routes]
    versioned_path = path if path.startswith("/v1/") else f"/v1{path}"
    spellings = (find_similar(spelling, candidates, MIN_SIMILARITY) for spelling in (versioned_path, path))
    return next(filter(None, spellings), None)


def _insert_path_id(route: str, path: str) -> str:
    """Inserts the last part of the path into the template if it fits: `{job_id}` accepts `job_…`."""
    parts, last = route.split("/"), path.rpartition("/")[2]
    if parts[-1].endswith("_id}") and last.startswith(parts[-1][1:-3]):
        parts[-1] = last
    return "/".join(parts)
