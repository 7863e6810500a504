"""The walls of the house: who may import whom. `docs/architecture.md` says why."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers import ADAPTERS

ROOT = Path(__file__).parent.parent
HTTP_CLIENTS = {"httpx", "aiohttp", "urllib3", "requests", "http"}
# Everything below may import what stands to its right, and nothing else of ours.
LAYERS = [
    {"gateway.app", "gateway.cli", "gateway.commands"},
    {"gateway.api", "gateway.telemetry"},
    {"gateway.engine"},
    {
        "gateway.store",
        "gateway.upstream",
        "gateway.assets",
        "gateway.routing",
        "gateway.cell_coverage",
        "gateway.report",
    },
    {"gateway.jobs", "gateway.catalogue", "gateway.config", "gateway.settings"}
    | {"gateway.money", "gateway.clock", "gateway.events", "gateway.task_supervisor"},
    {"providers"},
]
CONTRACT_MODULES = {"spec", "orders", "progress", "faults", "sizes", "signing", "reading", "writing"}
MODULES_ALLOWED_IN_PROVIDERS = {
    *("base64", "binascii", "collections", "datetime", "decimal", "email", "enum", "fractions", "functools", "urllib"),
    *("hashlib", "hmac", "json", "re", "typing", "msgspec"),
}

IMPURE_NAMES = {
    *("open", "eval", "exec", "input", "print", "__import__", "globals", "import_module"),
    *("now", "utcnow", "today", "fromtimestamp", "formatdate", "localtime", "make_msgid"),
}


def list_modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def get_module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def iterate_imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def list_top_packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in iterate_imports(path)}


def get_area(name: str) -> str:
    """gateway.store.redis → gateway.store; providers.adapter → providers."""
    return "providers" if name.startswith("providers") else ".".join(name.split(".")[:2])


def find_layer(name: str) -> int | None:
    return next((number for number, areas in enumerate(LAYERS) if get_area(name) in areas), None)


@pytest.mark.parametrize("path", list_modules("providers"), ids=get_module_name)
def test_providers_are_pure(path: Path) -> None:
    """No I/O, no clock, no randomness, no logging, and nothing of the gateway's."""
    assert list_top_packages(path) <= MODULES_ALLOWED_IN_PROVIDERS | {"providers"}


@pytest.mark.parametrize("package", ["providers", "gateway/routing"])
def test_pure_packages_read_no_clock_and_do_no_io(package: str) -> None:
    """Names that reach the world without an import of their own, or through a module that is allowed for its types."""
    violations = {
        f"{get_module_name(path)}: {name}"
        for path in list_modules(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if (name := _get_called_name(node)) in IMPURE_NAMES
    }
    assert violations == set()


def _get_called_name(node: ast.AST) -> str | None:
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "request_id", None) or getattr(function, "attr", None)


@pytest.mark.parametrize("path", list_modules("providers"), ids=get_module_name)
def test_adapter_imports_only_contract_and_own_company(path: Path) -> None:
    module = get_module_name(path).removeprefix("providers").strip(".")
    if module == "":
        return
    imported = {name.split(".")[1] for name in iterate_imports(path) if name.startswith("providers.")}
    company = module.split("_")[0]
    foreign = {other for other in imported - CONTRACT_MODULES if other.split("_")[0] != company}
    assert foreign == set()
    if module in CONTRACT_MODULES:
        assert imported <= CONTRACT_MODULES
    if module in ADAPTERS:
        assert not imported & (ADAPTERS.keys() - {module}), "one dialect leans on another"


@pytest.mark.parametrize("path", list_modules("providers"), ids=get_module_name)
def test_adapters_never_construct_no_answer(path: Path) -> None:
    """Only the exchange itself can fail to answer: a dialect reads what came, `reading.py` says when nothing did."""
    if get_module_name(path) == "providers.parsing":
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "Unanswered"]


@pytest.mark.parametrize("path", list_modules("gateway"), ids=get_module_name)
def test_gateway_modules_import_only_allowed_layers(path: Path) -> None:
    own_layer = find_layer(get_module_name(path))
    assert own_layer is not None or get_module_name(path) == "gateway", (
        "a new area of the gateway needs a place in RANKS"
    )
    for imported in iterate_imports(path):
        imported_layer = find_layer(imported)
        if own_layer is not None and imported_layer is not None:
            assert own_layer <= imported_layer, f"{get_module_name(path)} imports {imported}"


@pytest.mark.parametrize("package", ["gateway", "providers", "sandbox"])
def test_no_import_cycles(package: str) -> None:
    names = {get_module_name(path) for path in list_modules(package)}
    graph = {
        get_module_name(path): {module for module in list_imported_modules(path, names)}
        for path in list_modules(package)
    }
    graph.pop(package)
    resolved: set[str] = set()
    while resolvable := {
        name for name, dependencies in graph.items() if name not in resolved and dependencies <= resolved
    }:
        resolved |= resolvable
    assert graph.keys() - resolved == set()


def list_imported_modules(path: Path, names: set[str]) -> set[str]:
    """Modules, not the things imported from them; a package's own docstring file imports nothing that matters."""
    modules = {name if name in names else name.rpartition(".")[0] for name in iterate_imports(path)}
    return {name for name in modules if name in names and name.count(".")} - {get_module_name(path)}


@pytest.mark.parametrize("path", list_modules("gateway"), ids=get_module_name)
def test_outside_libraries_are_used_only_in_their_layer(path: Path) -> None:
    own_area, packages = get_area(get_module_name(path)), list_top_packages(path)
    if own_area not in ("gateway.upstream", "gateway.assets", "gateway.commands"):
        assert not packages & HTTP_CLIENTS
    if own_area != "gateway.store":
        assert not packages & {"redis", "sqlite3"}
    if own_area not in ("gateway.telemetry", "gateway.api"):
        assert "prometheus_client" not in packages
    if own_area in ("gateway.routing", "gateway.jobs", "gateway.money"):
        assert not packages & {"time", "random", "secrets", "asyncio", "os", "socket", "logging", "structlog", "uuid"}
    if own_area not in ("gateway.cli", "gateway.commands"):
        assert "sandbox" not in packages


@pytest.mark.parametrize("path", list_modules("sandbox"), ids=get_module_name)
def test_sandbox_imports_neither_gateway_nor_providers(path: Path) -> None:
    assert not list_top_packages(path) & {"gateway", "providers"}


@pytest.mark.parametrize(
    "package", ["gateway", "providers", "sandbox", "tests/unit", "tests/contract", "docs", "bench"]
)
def test_no_file_exceeds_400_lines(package: str) -> None:
    assert {
        get_module_name(path): lines
        for path in list_modules(package)
        if (lines := len(path.read_text().splitlines())) > 400
    } == {}


def test_adapters_table_lists_every_adapter_module() -> None:
    """Folder and table agree: a dialect is a module that makes an ADAPTER."""
    adapter_modules = {path.stem for path in list_modules("providers") if "\nADAPTER = " in path.read_text()}
    assert adapter_modules == set(ADAPTERS)
