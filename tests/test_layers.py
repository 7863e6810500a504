"""Import directions: which module may import which. `docs/architecture.md` gives the reasons."""

import ast
import builtins
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
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
    *("hashlib", "hmac", "json", "re", "typing", "unicodedata", "msgspec"),
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


@cache
def list_imports(path: Path) -> list[str]:
    """Lists every module that a file imports, wherever in the file; `from a import b` counts as a.b."""
    return list(_iterate_imports(path))


def _iterate_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def list_adapter_modules() -> list[Path]:
    return [path for path in list_modules("providers") if "\nADAPTER = " in path.read_text()]


def list_top_packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in list_imports(path)}


def get_area(name: str) -> str:
    """Returns gateway.store for gateway.store.redis, and providers for providers.adapter."""
    return "providers" if name.startswith("providers") else ".".join(name.split(".")[:2])


def find_layer(name: str) -> int | None:
    return next((number for number, areas in enumerate(LAYERS) if get_area(name) in areas), None)


def find_violations(package: str, check: Callable[[Path], Iterable[str]]) -> dict[str, set[str]]:
    """Returns what the check finds in each module of the package, without the modules in which it finds nothing."""
    found = {get_module_name(path): set(check(path)) for path in list_modules(package)}
    return {name: violations for name, violations in found.items() if violations}


def test_providers_are_pure() -> None:
    """No I/O, no clock, no randomness, no logging, no import from the gateway."""
    allowed = MODULES_ALLOWED_IN_PROVIDERS | {"providers"}
    assert find_violations("providers", lambda path: list_top_packages(path) - allowed) == {}


@pytest.mark.parametrize("package", ["providers", "gateway/routing"])
def test_pure_packages_read_no_clock_and_do_no_io(package: str) -> None:
    """Forbids calls that need no import of their own, or that come from a module allowed for its types."""
    assert find_violations(package, lambda path: _list_called_names(path) & IMPURE_NAMES) == {}


def _list_called_names(path: Path) -> set[str]:
    return {name for node in ast.walk(ast.parse(path.read_text())) if (name := _get_called_name(node))}


def _get_called_name(node: ast.AST) -> str | None:
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "id", None) or getattr(function, "attr", None)


def test_adapter_imports_only_contract_and_own_company() -> None:
    """A company is one module of `providers/`, or one package there."""

    def list_foreign_imports(path: Path) -> set[str]:
        own = path.relative_to(ROOT / "providers").with_suffix("").parts
        imported = {name.split(".")[1] for name in list_imports(path) if name.startswith("providers.")}
        return set() if own == ("__init__",) else imported - CONTRACT_MODULES - ({own[0]} - CONTRACT_MODULES)

    assert find_violations("providers", list_foreign_imports) == {}


def test_contract_lists_only_existing_modules() -> None:
    assert {path.stem for path in (ROOT / "providers").glob("*.py")} >= CONTRACT_MODULES


@pytest.mark.parametrize("path", list_adapter_modules(), ids=get_module_name)
def test_no_adapter_imports_another_adapter(path: Path) -> None:
    others = {get_module_name(other) for other in list_adapter_modules()} - {get_module_name(path)}
    imported = set(list_imports(path))
    assert not imported & others
    assert not {name.rpartition(".")[0] for name in imported} & others


def test_adapters_never_construct_no_answer() -> None:
    """Only a call can stay without an answer. Adapters parse answers; `parsing.py` decides when there is none."""
    found = find_violations("providers", lambda path: _list_called_names(path) & {"NoAnswer"})
    assert found.keys() <= {"providers.parsing"}


def test_every_area_of_the_gateway_has_a_layer() -> None:
    assert [path for path in list_modules("gateway") if find_layer(get_module_name(path)) is None] == [
        ROOT / "gateway" / "__init__.py"
    ]


def test_gateway_modules_import_only_allowed_layers() -> None:
    def list_imports_from_above(path: Path) -> set[str]:
        own_layer = find_layer(get_module_name(path)) or 0
        layers = {name: find_layer(name) for name in list_imports(path)}
        return {name for name, layer in layers.items() if layer is not None and layer < own_layer}

    assert find_violations("gateway", list_imports_from_above) == {}


def test_health_imports_neither_upstream_nor_a_clock() -> None:
    """Every `now` is an argument. asyncio is for the queue of the concurrency limiter."""

    def list_forbidden_imports(path: Path) -> set[str]:
        areas = {get_area(name) for name in list_imports(path) if name.startswith(("gateway", "providers"))}
        clocks = {"time", "datetime", "socket", "random", "secrets", "os"}
        return (areas - HEALTH_IMPORTS) | (list_top_packages(path) & clocks)

    assert find_violations("gateway/health", list_forbidden_imports) == {}


def test_upstream_does_not_import_health() -> None:
    assert (
        find_violations("gateway/upstream", lambda path: {*map(get_area, list_imports(path))} & {"gateway.health"})
        == {}
    )


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
    modules = {name if name in names else name.rpartition(".")[0] for name in list_imports(path)}
    return {name for name in modules if name in names and name.count(".")} - {get_module_name(path)}


def test_outside_libraries_are_used_only_in_their_layer() -> None:
    assert find_violations("gateway", lambda path: list_top_packages(path) & _list_forbidden_packages(path)) == {}


def _list_forbidden_packages(path: Path) -> set[str]:
    area = get_area(get_module_name(path))
    forbidden: set[str] = set()
    if area not in ("gateway.upstream", "gateway.assets", "gateway.commands"):
        forbidden |= HTTP_CLIENTS
    if area != "gateway.store":
        forbidden |= {"redis", "sqlite3"}
    if area not in ("gateway.telemetry", "gateway.api"):
        forbidden |= {"prometheus_client"}
    if area in ("gateway.routing", "gateway.jobs", "gateway.money"):
        forbidden |= {"time", "random", "secrets", "asyncio", "os", "socket", "logging", "structlog", "uuid"}
    if area not in ("gateway.cli", "gateway.commands"):
        forbidden |= {"sandbox"}
    return forbidden


def test_sandbox_imports_neither_gateway_nor_providers() -> None:
    assert find_violations("sandbox", lambda path: list_top_packages(path) & {"gateway", "providers"}) == {}


def test_simulated_sellers_do_not_import_each_other() -> None:
    """Only `sandbox/app.py` joins the packages of the simulated sellers."""

    def list_other_sellers(path: Path) -> set[str]:
        own = path.relative_to(ROOT / "sandbox").with_suffix("").parts
        imported = {name.split(".")[1] for name in list_imports(path) if name.startswith("sandbox.")}
        return set() if own == ("app",) else imported & SANDBOX_SELLERS - {own[0]}

    assert find_violations("sandbox", list_other_sellers) == {}


@pytest.mark.thorough
def test_no_test_module_imports_another() -> None:
    """What several of them need is in a module without tests."""
    imports = [(get_module_name(path), name) for path in list_modules("tests") for name in list_imports(path)]
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
