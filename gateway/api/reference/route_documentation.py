"""Documentation of a route that is not in its code. `route_documentation_table.py` has that of every route."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field


class RequestParameter(Struct, frozen=True, kw_only=True):
    """A parameter of the path, the query or the headers."""

    name: str
    location: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    example: Any = None


class ResponseDocumentation(Struct, frozen=True):
    """A successful response. `content`: the type of its JSON, or a media type; None if it has no body.

    `events`: the type of the JSON in each event, if the response can be a stream of server-sent events, too.
    """

    description: str
    content: Any = None
    headers: tuple[str, ...] = ()
    events: Any = None


class ExampleRequest(Struct, frozen=True, kw_only=True):
    """A request that a reader can run as it stands, as curl and with OpenAI's Python SDK.

    `files`: the names of files that a form sends, by parameter. `sdk_call`: the SDK's own call; by default that of its
    generic methods."""

    body: Mapping[str, Any] | None = None
    files: Mapping[str, str] = {}
    query: str = ""
    headers: Mapping[str, str] = {}
    sdk_call: str | None = None


class RouteDocumentation(Struct, frozen=True, kw_only=True):
    """The documentation of one route.

    `body`: the struct of its JSON body. `accepts_forms`: the body may be a form with files. `form`: the schema of
    a body that must be a form. `errors`: the codes of its
    errors, besides those that every route with such a body and scope has. `hidden_because`: why it is not published.
    """

    tag: str = ""
    summary: str = ""
    description: str = ""
    body: type[Struct] | None = None
    accepts_forms: bool = False
    form: Mapping[str, Any] | None = None
    parameters: tuple[RequestParameter, ...] = ()
    responses: Mapping[int, ResponseDocumentation] = {}
    errors: tuple[str, ...] = ()
    examples: Mapping[str, ExampleRequest] = field(default_factory=lambda: {"default": ExampleRequest()})
    hidden_because: str = ""


def make_query_parameter(name: str, description: str, schema: Mapping[str, Any] | None = None) -> RequestParameter:
    return RequestParameter(name=name, location="query", description=description, schema=schema or {"type": "string"})


def make_header(name: str, description: str, example: str) -> RequestParameter:
    return RequestParameter(name=name, location="header", description=description, example=example)
