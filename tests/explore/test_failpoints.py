"""Every await of the engine is either a failpoint or cannot have an effect outside the process."""

import ast
import inspect
from collections.abc import Iterator

import pytest

from gateway.engine.engine_context import EngineContext
from tests.explore.failpoints import (
    DEPENDENCIES,
    ENGINE_FOLDER,
    get_effect,
    iterate_functions,
    iterate_own_nodes,
    list_effect_methods,
    list_failpoints,
)

# Parameters that the engine awaits: the operations of retry loops, whose failpoints are where they are passed, and
# callables of the API, which only look at a connection.
AWAITED_PARAMETERS = {
    *("operation", "handler", "is_applied", "is_client_connected", "function", "periodic_function", "save_fact"),
    "save_commit",
}
# Functions of asyncio that only wait for time, or for tasks of this process. Others may open a connection or a file.
ASYNCIO_FUNCTIONS = {"gather", "shield", "sleep", "timeout", "wait"}
WAITING_METHODS = {
    *("wait", "receive", "post", "wait_for_change", "acquire", "process_once", "slot"),
    # The adapter reads an answer that has arrived; an image that has arrived is converted.
    *("parse_response", "convert_image", "stop", "close"),
    # A question is encoded in a thread.
    "_run_off_loop",
    # A read before the job exists: a crash there loses nothing.
    "load_raised_limits",
}


def list_engine_functions() -> set[str]:
    return {
        name.rpartition(".")[2]
        for path in ENGINE_FOLDER.glob("*.py")
        for name, function in iterate_functions(ast.parse(path.read_text()))
        if isinstance(function, ast.AsyncFunctionDef)
    }


def iterate_awaits(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yields each awaited expression of a module, those of `async with` and `async for` included."""
    for name, function in iterate_functions(tree):
        for node in iterate_own_nodes(function):
            if isinstance(node, ast.Await):
                yield name, node.value
            elif isinstance(node, ast.AsyncWith):
                yield from ((name, item.context_expr) for item in node.items)
            elif isinstance(node, ast.AsyncFor) or (isinstance(node, ast.comprehension) and node.is_async):
                yield name, node.iter


def list_unknown_awaits(source: str) -> list[str]:
    """Lists the awaits of a module that are neither failpoints nor harmless."""
    engine_functions = list_engine_functions()
    return [
        f"{name}: await {ast.unparse(expression)}"
        for name, expression in iterate_awaits(ast.parse(source))
        if not any(get_effect(node) for node in ast.walk(expression)) and not is_harmless(expression, engine_functions)
    ]


def is_harmless(expression: ast.expr, engine_functions: set[str]) -> bool:
    """Returns whether the awaited call is one of the engine itself, or only waits for tasks of this process."""
    if not isinstance(expression, ast.Call):
        # A lock, an event or a task.
        return isinstance(expression, ast.Name | ast.Attribute)
    called = expression.func
    if isinstance(called, ast.Name):
        return called.id in engine_functions | AWAITED_PARAMETERS | WAITING_METHODS
    if isinstance(called, ast.Attribute):
        if isinstance(called.value, ast.Name) and called.value.id == "asyncio":
            return called.attr in ASYNCIO_FUNCTIONS
        return called.attr in engine_functions | WAITING_METHODS | AWAITED_PARAMETERS
    return False


def test_each_await_of_engine_is_a_failpoint_or_harmless() -> None:
    unknown = [
        f"{path.stem}.{unknown_await}"
        for path in sorted(ENGINE_FOLDER.glob("*.py"))
        for unknown_await in list_unknown_awaits(path.read_text())
    ]
    assert unknown == [], "add a failpoint: let the effect go through a dependency of the engine context"


@pytest.mark.parametrize(
    ("statement", "is_known"),
    [
        ("await self.context.store.load_job(1)", True),
        ("await asyncio.sleep(1)", True),
        ("await self.other_store.load_job(1)", False),
        ("await asyncio.to_thread(write_file)", False),
        ("await asyncio.open_connection('seller.example', 443)", False),
        ("async for _ in client.stream(): pass", False),
        ("return [page async for page in client.stream()]", False),
        ("async with client.stream(): pass", False),
    ],
)
def test_new_effect_is_found(statement: str, is_known: bool) -> None:
    assert bool(list_unknown_awaits(f"async def run(self):\n    {statement}")) is not is_known


def test_dependencies_with_effects_are_those_of_engine_context() -> None:
    """A new dependency that waits must be intercepted, too."""
    with_effects = {
        name
        for name, annotation in EngineContext.__annotations__.items()
        if inspect.isclass(annotation)
        and any(inspect.iscoroutinefunction(member) for member in vars(annotation).values())
    }
    assert with_effects == set(DEPENDENCIES)


@pytest.mark.parametrize("dependency", DEPENDENCIES)
def test_failpoints_cover_dependency(dependency: str) -> None:
    effects = {name.partition(" -> ")[2] for name in list_failpoints()}
    assert {effect for effect in effects if effect.startswith(f"{dependency}.")}
    assert list_effect_methods(dependency)


def test_failpoint_is_named_by_its_function() -> None:
    assert "order_submitter.OrderSubmitter.send -> seller_client.send" in list_failpoints()
    assert "job_worker.JobWorker._commit_messages -> store.commit" in list_failpoints()
    assert "result_fetcher.ResultFetcher._store_one -> storage.put" in list_failpoints()
    assert "moderation.check_image -> moderation_client.ask" in list_failpoints()
