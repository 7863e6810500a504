"""Renders the reference as Markdown, and the overview for language models (llms.txt)."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.api.reference.reference_page_layout import (
    Block,
    Code,
    Heading,
    Paragraph,
    Table,
    build_blocks,
    list_operations,
    make_anchor,
)


def render_markdown(document: Mapping[str, Any]) -> str:
    return "\n\n".join(_render_block(block) for block in build_blocks(document)) + "\n"


def render_llms_txt(document: Mapping[str, Any]) -> str:
    """Renders the overview in the form of llms.txt: a title, a summary, and sections of links."""
    summary, _, details = document["info"]["description"].partition("\n\n")
    sections = (_render_section(document, tag["name"]) for tag in document["tags"])
    links = (
        "- [API reference](/docs.md): every route, body and error code, with examples\n"
        "- [OpenAPI 3.1](/openapi.json): the same for programs"
    )
    parts = [f"# {document['info']['title']}", f"> {summary}", details.strip(), f"## Reference\n\n{links}", *sections]
    return "\n\n".join(parts) + "\n"


def _render_section(document: Mapping[str, Any], tag: str) -> str:
    links = (
        f"- [{method} {path}](/docs.md#{make_anchor(operation['operationId'])}): {operation['summary']}"
        for method, path, operation in list_operations(document, tag)
    )
    return f"## {tag}\n\n" + "\n".join(links)


def _render_block(block: Block) -> str:
    match block:
        case Heading(level=level, text=text, anchor=anchor):
            return f'<a id="{anchor}"></a>\n\n{"#" * level} {text}' if level > 1 else f"# {text}"
        case Paragraph(text=text):
            return text
        case Code(language=language, source=source):
            return f"```{language}\n{source}\n```"
        case Table():
            return _render_table(block)


def _render_table(table: Table) -> str:
    rows = [table.head, tuple("---" for _ in table.head), *table.rows]
    return "\n".join(_render_row(row) for row in rows)


def _render_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
