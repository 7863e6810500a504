"""The documentation of the routes of monitoring, and of this documentation, by the name of the handler."""

from gateway.api.reference.route_documentation import ResponseDocumentation, RouteDocumentation
from gateway.api.response_types import ReadinessBody

MONITORING_ROUTE_DOCUMENTATION = {
    "livez": RouteDocumentation(
        tag="Monitoring",
        summary="Liveness",
        responses={200: ResponseDocumentation("The process runs.", "text/plain")},
    ),
    "readyz": RouteDocumentation(
        tag="Monitoring",
        summary="Readiness",
        responses={
            200: ResponseDocumentation("The gateway accepts jobs.", ReadinessBody),
            503: ResponseDocumentation("It accepts no jobs; the body has the reasons.", ReadinessBody),
        },
    ),
    "metrics": RouteDocumentation(
        tag="Monitoring",
        summary="Metrics for Prometheus",
        responses={200: ResponseDocumentation("The metrics.", "text/plain")},
    ),
    "get_openapi": RouteDocumentation(
        tag="Documentation",
        summary="OpenAPI 3.1 document",
        responses={200: ResponseDocumentation("The document.", "application/json", ("etag",))},
    ),
    "get_reference_page": RouteDocumentation(
        tag="Documentation",
        summary="This page",
        responses={200: ResponseDocumentation("The page.", "text/html", ("etag",))},
    ),
    "get_reference_markdown": RouteDocumentation(
        tag="Documentation",
        summary="This page in Markdown",
        responses={200: ResponseDocumentation("The page.", "text/markdown", ("etag",))},
    ),
    "get_llms_txt": RouteDocumentation(
        tag="Documentation",
        summary="Overview for language models",
        responses={200: ResponseDocumentation("The overview.", "text/plain", ("etag",))},
    ),
}
