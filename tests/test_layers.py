"""Import directions: which module may import which. `docs/architecture.md` gives the reasons."""

import ast
import builtins
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import gateway
from providers import ADAPTERS

ROOT = Path(__file__).parent.parent
HTTP_CLIENTS = {"httpx", "aiohttp", "urllib3", "requests", "http"}
# A module may import modules of its own row and of the rows below, and no other modules of this project.
LAYERS = [
    {"gateway.gateway_lifecycle", "gateway.components", "gateway.cli", "gateway.commands"},
    {"gateway.api", "gateway.telemetry"},
    {"gateway.engine", "gateway.access", "gateway.webhooks", "gateway.ledger"},
    {
        "gateway.store",
        "gateway.health",
        "gateway.upstream",
        "gateway.assets",
        "gateway.routing",
    },
    {"gateway.jobs", "gateway.catalogue", "gateway.config", "gateway.settings"}
    | {"gateway.money", "gateway.suggestions", "gateway.slewing_clock", "gateway.events", "gateway.task_supervisor"}
    | {"gateway.memory_budget", "gateway.large_body_thread", "gateway.timeouts_and_intervals", "gateway.event_wait"}
    | {"gateway.trace_context"},
    {"providers"},
]
# What gateway.health may import of this project. Not gateway.upstream: the engine joins the two.
HEALTH_IMPORTS = {
    "gateway.health",
    "gateway.routing",
    "gateway.catalogue",
    "gateway.config",
    "gateway.timeouts_and_intervals",
} | {"providers"}
CONTRACT_MODULES = {
    *(
        "adapter",
        "orders",
        "order_status",
        "account_status",
        "charge_list",
        "faults",
        "image_sizes",
        "callback_signatures",
    ),
    *("call_builders", "parsing"),
}
SANDBOX_SELLERS = {path.parent.name for path in (ROOT / "sandbox").glob("*/__init__.py")}
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
    """Yields every module that a file imports, wherever in the file; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def list_adapter_modules() -> list[Path]:
    return [path for path in list_modules("providers") if "\nADAPTER = " in path.read_text()]


def list_top_packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in iterate_imports(path)}


def get_area(name: str) -> str:
    """Returns gateway.store for gateway.store.redis, and providers for providers.adapter."""
    return "providers" if name.startswith("providers") else ".".join(name.split(".")[:2])


def find_layer(name: str) -> int | None:
    return next((number for number, areas in enumerate(LAYERS) if get_area(name) in areas), None)


@pytest.mark.parametrize("path", list_modules("providers"), ids=get_module_name)
def test_providers_are_pure(path: Path) -> None:
    """No I/O, no clock, no randomness, no logging, no import from the gateway."""
    assert list_top_packages(path) <= MODULES_ALLOWED_IN_PROVIDERS | {"providers"}


@pytest.mark.parametrize("package", ["providers", "gateway/routing"])
def test_pure_packages_read_no_clock_and_do_no_io(package: str) -> None:
    """Forbids calls that need no import of their own, or that come from a module allowed for its types."""
    violations = {
        f"{get_module_name(path)}: {name}"
        for path in list_modules(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if (name := _get_called_name(node)) in IMPURE_NAMES
    }
    assert violations == set()


def _get_called_name(node: ast.AST) -> str | None:
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "id", None) or getattr(function, "attr", None)


@pytest.mark.parametrize("path", list_modules("providers"), ids=get_module_name)
def test_adapter_imports_only_contract_and_own_company(path: Path) -> None:
    """A company is one module of `providers/`, or one package there."""
    own = path.relative_to(ROOT / "providers").with_suffix("").parts
    if own == ("__init__",):
        return
    imported = {name.split(".")[1] for name in iterate_imports(path) if name.startswith("providers.")}
    if own[0] in CONTRACT_MODULES:
        assert imported <= CONTRACT_MODULES
    else:
        assert imported <= CONTRACT_MODULES | {own[0]}


def test_contract_lists_only_existing_modules() -> None:
    assert {path.stem for path in (ROOT / "providers").glob("*.py")} >= CONTRACT_MODULES


@pytest.mark.parametrize("path", list_adapter_modules(), ids=get_module_name)
def test_no_adapter_imports_another_adapter(path: Path) -> None:
    others = {get_module_name(other) for other in list_adapter_modules()} - {get_module_name(path)}
    imported = set(iterate_imports(path))
    assert not imported & others
    assert not {name.rpartition(".")[0] for name in imported} & others


@pytest.mark.parametrize("path", list_modules("providers"), ids=get_module_name)
def test_adapters_never_construct_no_answer(path: Path) -> None:
    """Only a call can stay without an answer. Adapters parse answers; `parsing.py` decides when there is none."""
    if get_module_name(path) == "providers.parsing":
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [node for node in calls if _get_called_name(node) == "NoAnswer"]


@pytest.mark.parametrize("path", list_modules("gateway"), ids=get_module_name)
def test_gateway_modules_import_only_allowed_layers(path: Path) -> None:
    own_layer = find_layer(get_module_name(path))
    assert own_layer is not None or get_module_name(path) == "gateway", "add the new area of the gateway to LAYERS"
    for imported in iterate_imports(path):
        imported_layer = find_layer(imported)
        if own_layer is not None and imported_layer is not None:
            assert own_layer <= imported_layer, f"{get_module_name(path)} imports {imported}"


@pytest.mark.parametrize("path", list_modules("gateway/health"), ids=get_module_name)
def test_health_imports_neither_upstream_nor_a_clock(path: Path) -> None:
    """Every `now` is an argument. asyncio is for the queue of the concurrency limiter."""
    areas = {get_area(name) for name in iterate_imports(path) if name.startswith(("gateway", "providers"))}
    assert areas <= HEALTH_IMPORTS
    assert not list_top_packages(path) & {"time", "datetime", "socket", "random", "secrets", "os"}


@pytest.mark.parametrize("path", list_modules("gateway/upstream"), ids=get_module_name)
def test_upstream_does_not_import_health(path: Path) -> None:
    assert "gateway.health" not in {get_area(name) for name in iterate_imports(path)}


@pytest.mark.parametrize("path", [ROOT / "gateway" / f"{name}.py" for name in ("memory_budget", "large_body_thread")])
def test_helpers_for_large_bodies_import_nothing_of_this_project(path: Path) -> None:
    """The API and the seller client both use them."""
    assert not list_top_packages(path) & {"gateway", "providers", "httpx", "aiohttp", "litestar"}


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
    """Returns imported modules, not the names imported from them."""
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


@pytest.mark.parametrize("path", list_modules("sandbox"), ids=get_module_name)
def test_simulated_sellers_do_not_import_each_other(path: Path) -> None:
    """Only `sandbox/app.py` joins the packages of the simulated sellers."""
    own = path.relative_to(ROOT / "sandbox").with_suffix("").parts
    imported = {name.split(".")[1] for name in iterate_imports(path) if name.startswith("sandbox.")}
    if own != ("app",):
        assert imported & SANDBOX_SELLERS <= {own[0]}


def test_no_test_module_imports_another() -> None:
    """What several of them need is in a module without tests."""
    imports = [(get_module_name(path), name) for path in list_modules("tests") for name in iterate_imports(path)]
    assert len(imports) > 1_000
    assert not [(module, name) for module, name in imports if re.match(r"tests\.(\w+\.)*test_", name)]


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
    """The modules that make an ADAPTER and the table ADAPTERS agree."""
    adapters = [import_module(get_module_name(path)).ADAPTER for path in list_adapter_modules()]
    assert {adapter.name: adapter for adapter in adapters} == ADAPTERS
    assert len(adapters) == len(ADAPTERS)


def test_tree_of_errors_is_complete() -> None:
    """Every error class of the gateway and the providers, once, below its base class."""
    drawn = dict(_read_drawn_tree(gateway.__doc__ or ""))
    assert drawn == dict(_iterate_error_classes()) | {"PermissionError": "OSError"}


def _read_drawn_tree(text: str) -> Iterator[tuple[str, str]]:
    """Yields each class of the drawn tree with its base class."""
    ancestors: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"    ((?:[│ ]   )*)([├└]── )?([A-Z]\w+)(?:  |$)", line):
            depth = len(match[1]) // 4 + bool(match[2])
            ancestors[depth:] = [match[3]]
            if depth:
                yield match[3], ancestors[depth - 1]


def _iterate_error_classes() -> Iterator[tuple[str, str]]:
    bases = {
        node.name: [ast.unparse(base) for base in node.bases]
        for package in ("gateway", "providers")
        for path in list_modules(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    for name, (*_, base) in ((name, names) for name, names in bases.items() if names):
        ancestor = base
        while bases.get(ancestor):
            ancestor = bases[ancestor][-1]
        if isinstance(found := getattr(builtins, ancestor, None), type) and issubclass(found, Exception):
            yield name, base
