"""The walls of the house: who may import whom. `docs/architecture.md` says why."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers import ADAPTERS

ROOT = Path(__file__).parent.parent
HTTP_CLIENTS = {"httpx", "aiohttp", "urllib3", "requests", "http"}
# Everything below may import what stands to its right, and nothing else of ours.
RANKS = [
    {"gateway.app", "gateway.cli", "gateway.commands"},
    {"gateway.api", "gateway.telemetry"},
    {"gateway.engine"},
    {"gateway.store", "gateway.upstream", "gateway.assets", "gateway.routing", "gateway.coverage", "gateway.report"},
    {"gateway.jobs", "gateway.catalogue", "gateway.config", "gateway.settings"}
    | {"gateway.money", "gateway.clock", "gateway.events", "gateway.supervision"},
    {"providers"},
]
CONTRACT = {"spec", "orders", "progress", "faults", "sizes", "signing", "reading", "writing"}
PURE_FOR_PROVIDERS = {
    *("base64", "binascii", "collections", "datetime", "decimal", "email", "enum", "fractions", "functools", "urllib"),
    *("hashlib", "hmac", "json", "re", "typing", "msgspec"),
}

IMPURE_NAMES = {
    *("open", "eval", "exec", "input", "print", "__import__", "globals", "import_module"),
    *("now", "utcnow", "today", "fromtimestamp", "formatdate", "localtime", "make_msgid"),
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def area(name: str) -> str:
    """gateway.store.redis → gateway.store; providers.spec → providers."""
    return "providers" if name.startswith("providers") else ".".join(name.split(".")[:2])


def rank(name: str) -> int | None:
    return next((number for number, areas in enumerate(RANKS) if area(name) in areas), None)


@pytest.mark.parametrize("path", modules("providers"), ids=name_of)
def test_providers_are_pure(path: Path) -> None:
    """No I/O, no clock, no randomness, no logging, and nothing of the gateway's."""
    assert tops(path) <= PURE_FOR_PROVIDERS | {"providers"}


@pytest.mark.parametrize("package", ["providers", "gateway/routing"])
def test_what_is_pure_reads_no_clock_and_opens_nothing(package: str) -> None:
    """Names that reach the world without an import of their own, or through a module that is allowed for its types."""
    reached = {
        f"{name_of(path)}: {name}"
        for path in modules(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if (name := _called(node)) in IMPURE_NAMES
    }
    assert reached == set()


def _called(node: ast.AST) -> str | None:
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "id", None) or getattr(function, "attr", None)


@pytest.mark.parametrize("path", modules("providers"), ids=name_of)
def test_a_dialect_knows_the_contract_and_its_own_company(path: Path) -> None:
    own = name_of(path).removeprefix("providers").strip(".")
    if own == "":
        return
    known = {name.split(".")[1] for name in imports(path) if name.startswith("providers.")}
    company = own.split("_")[0]
    strangers = {other for other in known - CONTRACT if other.split("_")[0] != company}
    assert strangers == set()
    if own in CONTRACT:
        assert known <= CONTRACT
    if own in ADAPTERS:
        assert not known & (ADAPTERS.keys() - {own}), "one dialect leans on another"


@pytest.mark.parametrize("path", modules("providers"), ids=name_of)
def test_no_dialect_makes_an_unanswered(path: Path) -> None:
    """Only the exchange itself can fail to answer: a dialect reads what came, `reading.py` says when nothing did."""
    if name_of(path) == "providers.reading":
        return
    made = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [node for node in made if isinstance(node.func, ast.Name) and node.func.id == "Unanswered"]


@pytest.mark.parametrize("path", modules("gateway"), ids=name_of)
def test_the_gateway_imports_to_its_right_only(path: Path) -> None:
    own = rank(name_of(path))
    assert own is not None or name_of(path) == "gateway", "a new area of the gateway needs a place in RANKS"
    for imported in imports(path):
        other = rank(imported)
        if own is not None and other is not None:
            assert own <= other, f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("package", ["gateway", "providers", "sandbox"])
def test_no_module_imports_itself_by_a_detour(package: str) -> None:
    names = {name_of(path) for path in modules(package)}
    graph = {name_of(path): {module for module in imported_modules(path, names)} for path in modules(package)}
    graph.pop(package)
    ready: set[str] = set()
    while free := {name for name, needed in graph.items() if name not in ready and needed <= ready}:
        ready |= free
    assert graph.keys() - ready == set()


def imported_modules(path: Path, names: set[str]) -> set[str]:
    """Modules, not the things imported from them; a package's own docstring file imports nothing that matters."""
    found = {name if name in names else name.rpartition(".")[0] for name in imports(path)}
    return {name for name in found if name in names and name.count(".")} - {name_of(path)}


@pytest.mark.parametrize("path", modules("gateway"), ids=name_of)
def test_each_outside_library_has_its_place(path: Path) -> None:
    own, used = area(name_of(path)), tops(path)
    if own not in ("gateway.upstream", "gateway.assets", "gateway.commands"):
        assert not used & HTTP_CLIENTS
    if own != "gateway.store":
        assert not used & {"redis", "sqlite3"}
    if own not in ("gateway.telemetry", "gateway.api"):
        assert "prometheus_client" not in used
    if own in ("gateway.routing", "gateway.jobs", "gateway.money"):
        assert not used & {"time", "random", "secrets", "asyncio", "os", "socket", "logging", "structlog", "uuid"}
    if own not in ("gateway.cli", "gateway.commands"):
        assert "sandbox" not in used


@pytest.mark.parametrize("path", modules("sandbox"), ids=name_of)
def test_the_sandbox_shares_nothing_with_what_it_is_to_test(path: Path) -> None:
    assert not tops(path) & {"gateway", "providers"}


@pytest.mark.parametrize(
    "package", ["gateway", "providers", "sandbox", "tests/unit", "tests/contract", "docs", "bench"]
)
def test_no_file_outgrows_its_subject(package: str) -> None:
    assert {
        name_of(path): lines for path in modules(package) if (lines := len(path.read_text().splitlines())) > 400
    } == {}


def test_adapters_are_the_dialects_that_there_are() -> None:
    """Folder and table agree: a dialect is a module that makes an ADAPTER."""
    made = {path.stem for path in modules("providers") if "\nADAPTER = " in path.read_text()}
    assert made == set(ADAPTERS)
