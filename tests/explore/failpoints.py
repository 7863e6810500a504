"""The engine's failpoints: each place where it waits for an effect of the store, the sellers, the storage or a hook.

The list is generated from the source of the engine. The failpoint of an effect is named by the function that waits for
it, for example `order_submitter.OrderSubmitter.send -> seller_client.send`. The engine itself has no hooks: a test
wraps its four dependencies, and reads from the stack of the call which failpoint was reached.
"""

import ast
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from gateway.assets.storage import ImageStorage
from gateway.engine.moderation_client import ModerationClient
from gateway.store.base import Store
from gateway.upstream.seller_client import SellerClient

ENGINE_FOLDER = Path(sys.modules["gateway"].__file__ or "").parent / "engine"
# The attributes of the engine context, and the classes behind them.
DEPENDENCIES = {
    "store": Store,
    "seller_client": SellerClient,
    "storage": ImageStorage,
    "moderation_client": ModerationClient,
}
# Functions of the engine that add something to an effect. The failpoint is that of their caller.
EFFECT_FUNCTIONS = {"commit_job": "store.commit", "ask_hook": "moderation_client.ask"}
# Calls the effect, or fails in its place.
EffectRunner = Callable[[str, str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
# They run beside the jobs, and no crash can lose anything there.
MODULES_WITHOUT_JOBS = {"account_checker"}


@cache
def list_effect_methods(dependency: str) -> frozenset[str]:
    """Returns the methods of a dependency that wait: its effects."""
    methods = vars(DEPENDENCIES[dependency])
    return frozenset(
        name for name, method in methods.items() if callable(method) and method.__code__.co_flags & 0x80
    ) - {"open", "close", "aclose", "__aenter__", "__aexit__"}


@cache
def list_failpoints() -> frozenset[str]:
    """Returns the names of all failpoints of the engine."""
    paths = [path for path in sorted(ENGINE_FOLDER.glob("*.py")) if path.stem not in MODULES_WITHOUT_JOBS]
    return frozenset(name for path in paths for name in _iterate_failpoints(path))


def _iterate_failpoints(path: Path) -> Iterator[str]:
    for qualified_name, function in iterate_functions(ast.parse(path.read_text())):
        if qualified_name in EFFECT_FUNCTIONS:
            continue
        for node in iterate_own_nodes(function):
            if effect := get_effect(node):
                yield f"{path.stem}.{qualified_name} -> {effect}"


def get_effect(node: ast.AST) -> str | None:
    """Returns `store.commit` for `context.store.commit`, whether it is called here or passed on; else None."""
    if isinstance(node, ast.Name):
        return EFFECT_FUNCTIONS.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    dependency = owner.lstrip("_")
    is_effect = dependency in DEPENDENCIES and node.attr in list_effect_methods(dependency)
    return f"{dependency}.{node.attr}" if is_effect else None


def iterate_functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
            yield from iterate_functions(node, f"{prefix}{node.name}.<locals>.")
        elif isinstance(node, ast.ClassDef):
            yield from iterate_functions(node, f"{prefix}{node.name}.")
        else:
            yield from iterate_functions(node, prefix)


def iterate_own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes of a function, with those of its lambdas, without those of nested functions."""
    for node in ast.iter_child_nodes(function):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from iterate_own_nodes(node)


class Interceptor:
    """Wraps one dependency of one replica. `run_effect` gets the failpoint, the effect and its call. `failpoints`: of
    the engine, if they are known: generating them takes half a second."""

    def __init__(
        self, dependency: str, target: Any, run_effect: EffectRunner, failpoints: frozenset[str] | None = None
    ) -> None:
        self._dependency, self._target, self._run_effect = dependency, target, run_effect
        self._failpoints = list_failpoints() if failpoints is None else failpoints
        self._effects = list_effect_methods(dependency)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if name not in self._effects:
            return attribute
        effect = f"{self._dependency}.{name}"

        def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            failpoint = find_failpoint(sys._getframe(1), effect, self._failpoints)
            return self._run_effect(failpoint, effect, lambda: attribute(*args, **kwargs))

        return call


def find_failpoint(frame: FrameType | None, effect: str, failpoints: frozenset[str]) -> str:
    """Returns the failpoint of the innermost function of the engine that waits for this effect.

    A function of the API has a failpoint, too: it is not listed, since it need not survive a crash.
    """
    nearest = ""
    while frame is not None and frame.f_globals.get("__name__", "").startswith(("gateway", "tests.explore")):
        module = frame.f_globals["__name__"].rpartition(".")[2]
        name = f"{module}.{frame.f_code.co_qualname} -> {effect}"
        if name in failpoints:
            return name
        nearest = nearest or name
        frame = frame.f_back
    return nearest
