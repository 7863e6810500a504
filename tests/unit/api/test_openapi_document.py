"""The OpenAPI document: it is valid, complete, and says what the configuration says."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from litestar import get
from msgspec.structs import replace
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.api.access_control import PUBLIC
from gateway.api.application import ROUTE_HANDLERS
from gateway.api.parameter_table import BODY_TYPES
from gateway.api.reference.code_examples import PYTHON_SETUP, SHELL_SETUP
from gateway.api.reference.openapi_document import (
    build_openapi_document,
    list_undocumented_routes,
    load_error_table,
)
from gateway.api.reference.reference_markdown import render_llms_txt, render_markdown
from gateway.api.reference.reference_page import render_page
from gateway.api.reference.reference_page_layout import Code, Heading, build_blocks
from gateway.api.reference.route_documentation_table import ROUTE_DOCUMENTATION
from gateway.catalogue import Catalogue
from gateway.commands.config_helpers import load_config
from providers.image_sizes import ResolutionTier, SizeLaw
from providers.orders import Format
from tests.harness.gateway_runner import CONFIG


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    result = load_config(CONFIG, with_secrets=False)
    assert result.catalogue is not None, result.problems
    return result.catalogue


@pytest.fixture(scope="module")
def document(catalogue: Catalogue) -> dict[str, Any]:
    """The document as a client reads it."""
    document: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(build_openapi_document(ROUTE_HANDLERS, catalogue))
    )
    return document


def iterate_operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        yield from operations.values()


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_route_is_documented() -> None:
    """A new route needs a row in gateway/api/reference/route_documentation_table.py."""
    assert list_undocumented_routes(ROUTE_HANDLERS) == []
    names = {handler.handler_name for handler in ROUTE_HANDLERS}
    assert set(ROUTE_DOCUMENTATION) - names == set(), "rows without a route"


def test_undocumented_route_is_found() -> None:
    @get("/v1/news", opt=PUBLIC)
    async def list_news() -> str:
        return ""

    assert list_undocumented_routes([*ROUTE_HANDLERS, list_news]) == ["list_news"]


def test_every_published_route_is_described_whole(document: dict[str, Any]) -> None:
    for operation in iterate_operations(document):
        name = operation["operationId"]
        assert operation["summary"], name
        assert set(operation["responses"]) > {"default"}, f"{name}: no response"
        assert all(parameter["description"] for parameter in operation.get("parameters", ())), name
    published = {operation["operationId"] for operation in iterate_operations(document)}
    hidden = {name for name, documentation in ROUTE_DOCUMENTATION.items() if documentation.hidden_because}
    assert published == {handler.handler_name for handler in ROUTE_HANDLERS} - hidden
    tags = {tag["name"] for tag in document["tags"]}
    assert {tag for operation in iterate_operations(document) for tag in operation["tags"]} == tags


def test_every_body_is_documented() -> None:
    bodies = {documentation.body for documentation in ROUTE_DOCUMENTATION.values()}
    assert set(BODY_TYPES.values()) <= bodies


def test_scopes_are_those_of_access_control(document: dict[str, Any]) -> None:
    assert document["paths"]["/v1/images/generations"]["post"]["security"] == [{"bearer": ["generate"]}]
    assert document["paths"]["/v1/admin/keys"]["get"]["security"] == [{"bearer": ["admin"]}]
    assert document["paths"]["/livez"]["get"]["security"] == []


def test_errors_are_listed_by_status(document: dict[str, Any]) -> None:
    responses = document["paths"]["/v1/images/generations"]["post"]["responses"]
    assert "`moderation_blocked`" in responses["400"]["description"]
    assert "`invalid_api_key`" in responses["401"]["description"]
    assert "application/json" in responses["default"]["content"]
    assert "application/problem+json" in document["paths"]["/v1/jobs"]["post"]["responses"]["default"]["content"]
    assert set(document["x-error-codes"]) == set(load_error_table())


def test_configured_models_are_choices(catalogue: Catalogue) -> None:
    """A model that an operator adds appears with its own words and sizes."""
    added = replace(
        catalogue.models["gpt-image-2"],
        name="made-up",
        qualities=("draft", "max"),
        formats=(Format.WEBP,),
        size_law=SizeLaw(edge_step=64, max_ratio=2, tiers=(ResolutionTier("8k", 33_177_600, 33_177_600),)),
    )
    models = {**catalogue.models, "made-up": added}
    document = build_openapi_document(ROUTE_HANDLERS, replace(catalogue, models=models))
    for name in ("GenerationRequest", "EditRequest", "CreateJobRequest"):
        properties = document["components"]["schemas"][name]["properties"]
        choices = {field: properties[field]["anyOf"][0]["enum"] for field in ("model", "quality", "resolution")}
        assert choices == {
            "model": ["gpt-image-2", "made-up", *catalogue.aliases],
            "quality": ["auto", "low", "medium", "high", "draft", "max", "standard", "hd"],
            "resolution": ["1k", "2k", "4k", "8k"],
        }
        assert "`made-up`: qualities draft, max; resolutions 8k" in properties["model"]["description"]
        assert "multiples of 64" in properties["size"]["description"]


def test_page_needs_no_other_host_and_no_script(document: dict[str, Any]) -> None:
    page = render_page(document)
    assert "<script" not in page
    loaded = re.findall(r"<(?:img|link|iframe|object|embed|source)[^>]*(?:src|href)=\"([^\"]*)\"", page)
    assert loaded
    assert all(target.startswith("/") and not target.startswith("//") for target in loaded)
    assert "@import" not in page
    assert "url(" not in page.partition("</style>")[0]
    assert "prefers-color-scheme:dark" in page


def test_links_within_the_pages_resolve(document: dict[str, Any]) -> None:
    anchors = {block.anchor for block in build_blocks(document) if isinstance(block, Heading)}
    page, markdown = render_page(document), render_markdown(document)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors
    assert set(re.findall(r"\]\(#([^)]+)\)", markdown)) <= anchors
    assert set(re.findall(r"/docs\.md#([^)]+)\)", render_llms_txt(document))) <= anchors


def test_texts_of_the_page_are_escaped(document: dict[str, Any]) -> None:
    tag = {"name": "Images", "description": "<script>alert(1)</script> `<b>`"}
    page = render_page({**document, "tags": [tag]})
    assert "<script" not in page
    assert "<code>&lt;b&gt;</code>" in page


def test_llms_txt_has_title_summary_and_links_for_every_route(document: dict[str, Any]) -> None:
    lines = render_llms_txt(document).splitlines()
    assert lines[0] == "# image-gateway"
    assert lines[2].startswith("> ")
    links = [line for line in lines if re.fullmatch(r"- \[[^\]]+\]\(/[^)]+\): .+", line)]
    assert len(links) == 2 + sum(1 for _ in iterate_operations(document))
    assert sum(line.startswith("# ") for line in lines) == 1


def test_code_with_blank_lines_stays_one_block(document: dict[str, Any]) -> None:
    sources = [block.source for block in build_blocks(document) if isinstance(block, Code)]
    assert PYTHON_SETUP in sources
    assert SHELL_SETUP in sources
