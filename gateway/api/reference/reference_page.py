"""Renders the reference as one HTML page, which contains no scripts and loads nothing from other hosts."""

import base64
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any

from gateway.api.reference.reference_page_layout import Block, Code, Heading, Paragraph, Table, build_blocks

STYLE = """
:root{color-scheme:light dark;--text:#1d2430;--muted:#5b6472;--line:#d9dee6;--panel:#f5f7fa;--accent:#0b5cad}
@media(prefers-color-scheme:dark){:root{--text:#dfe5ee;--muted:#98a3b3;--line:#323a47;--panel:#1b212b;--accent:#7ab8ff}
body{background:#12161d}}
*{box-sizing:border-box}html{scroll-padding-top:1rem}
body{margin:0;color:var(--text);font:16px/1.55 system-ui,sans-serif;display:flex}
nav{position:sticky;top:0;height:100vh;overflow:auto;flex:0 0 17rem;padding:1.2rem;border-right:1px solid var(--line)}
nav ul{list-style:none;margin:0 0 .8rem;padding:0;font-size:.9rem}nav p{margin:.6rem 0 .2rem;font-weight:600}
main{flex:1;min-width:0;max-width:60rem;padding:1.5rem 2.5rem 6rem}
a{color:var(--accent);text-decoration:none}a:hover,a:focus{text-decoration:underline}
h1{font-size:1.9rem;margin:0 0 1rem}h2{margin:3rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{margin:2.2rem 0 .4rem}h2 a,h3 a{color:inherit}
code,pre{font:.86em/1.5 ui-monospace,monospace}code{background:var(--panel);padding:.1em .3em;border-radius:4px;
overflow-wrap:anywhere}
pre{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;overflow-x:auto}
pre code{background:none;padding:0;overflow-wrap:normal}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem;margin:.8rem 0}
th,td{text-align:left;vertical-align:top;padding:.35rem .7rem .35rem 0;border-bottom:1px solid var(--line)}
th{color:var(--muted);font-weight:600}
@media(max-width:800px){body{display:block}nav{position:static;height:auto;border:0;padding-bottom:0}main{padding:1rem}}
@media print{nav{display:none}}
"""
_STYLE_HASH = base64.b64encode(sha256(STYLE.encode()).digest()).decode()
# The page can neither run a script nor load anything.
CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"
_INLINE = re.compile(r"`([^`]+)`|\[([^\]]+)\]\(([^)\s]+)\)|\*([^*`]+(?:`[^`]*`[^*`]*)*)\*")
LINKS = (
    '<link rel="alternate" type="text/markdown" href="/docs.md"><link rel="describedby" type="text/plain" '
    'href="/llms.txt"><link rel="service-desc" type="application/json" href="/openapi.json">'
)


def render_page(document: Mapping[str, Any]) -> str:
    blocks = list(build_blocks(document))
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: API reference</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{LINKS}<style>{STYLE}</style></head>'
        f'<body><nav aria-label="Contents">{"".join(_render_contents(blocks))}</nav>'
        f"<main>{''.join(map(_render_block, blocks))}</main></body></html>\n"
    )


def _render_contents(blocks: list[Block]) -> Iterator[str]:
    """Renders the links to all sections, in a list for each section of level 2."""
    yield '<p><a href="#top">Introduction</a></p><ul>'
    for block in blocks:
        if isinstance(block, Heading) and block.level > 1:
            link = f'<a href="#{block.anchor}">{escape(block.text)}</a>'
            yield f"</ul><p>{link}</p><ul>" if block.level == 2 else f"<li>{link}</li>"
    yield '</ul><p><a href="/openapi.json">OpenAPI 3.1</a> · <a href="/docs.md">Markdown</a></p>'


def _render_block(block: Block) -> str:
    match block:
        case Heading(level=level, text=text, anchor=anchor):
            return f'<h{level} id="{anchor}"><a href="#{anchor}">{escape(text)}</a></h{level}>'
        case Paragraph(text=text):
            return f"<p>{_render_inline(text)}</p>"
        case Code(language=language, source=source):
            return f'<pre tabindex="0"><code class="language-{language}">{escape(source)}</code></pre>'
        case Table():
            return _render_table(block)


def _render_table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = ("".join(f"<td>{_render_inline(cell)}</td>" for cell in row) for row in table.rows)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _render_inline(text: str) -> str:
    """Renders code, links and emphasis; everything else is escaped."""
    parts, position = [], 0
    for match in _INLINE.finditer(text):
        parts += [escape(text[position : match.start()]), _render_match(match)]
        position = match.end()
    return "".join([*parts, escape(text[position:])])


def _render_match(match: re.Match[str]) -> str:
    code, label, target, emphasis = match.groups()
    if code:
        return f"<code>{escape(code)}</code>"
    return f'<a href="{escape(target)}">{escape(label)}</a>' if label else f"<em>{_render_inline(emphasis)}</em>"
