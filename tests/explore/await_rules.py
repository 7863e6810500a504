"""Decides which awaits of the engine can have an effect outside the process. Reads the source alone.

An awaited call is judged by its receiver, not by its name: `wait` of an event is harmless, `wait` of a process is not.
"""

import ast
import asyncio
import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module

from gateway.engine.engine import Engine
from gateway.engine.input_uploader import InputUploader
from gateway.engine.job_caller_remover import JobCallerRemover
from gateway.engine.job_confirmation import JobConfirmer
from gateway.engine.job_context import JobContext
from gateway.engine.job_creation import CreateJobCommand
from gateway.engine.job_worker import JobWorker
from gateway.engine.mailbox import Mailbox
from gateway.engine.order_tracker import OrderTracker
from gateway.engine.result_fetcher import ResultFetcher
from gateway.engine.seen_callbacks import SeenCallbacks
from gateway.health.account_limiters import AccountLimiters
from gateway.store.job_watch import JobWatch
from gateway.task_supervisor import SupervisedTask
from tests.explore.failpoints import ENGINE_FOLDER, get_effect, iterate_functions, iterate_own_nodes

# Functions of asyncio that only wait for time, or for tasks of this process. Others may open a connection or a file.
WAITING_FUNCTIONS = {"gather", "shield", "sleep", "timeout", "wait"}
# They run their arguments, which are judged like what is awaited.
RUNNING_FUNCTIONS = {"gather", "shield", "wait", "create_task"}
# They start a task for their first argument, at any receiver: asyncio, a loop or a task group.
TASK_STARTERS = {"create_task", "ensure_future", "run_coroutine_threadsafe"}
# The components of the engine, by the names of variables and attributes. Their methods are judged themselves.
ENGINE_COMPONENTS = {
    "engine": Engine,
    "mailbox": Mailbox,
    "job_context": JobContext,
    "tracker": OrderTracker,
    "result_fetcher": ResultFetcher,
    "uploader": InputUploader,
    "confirmer": JobConfirmer,
    "seen_callbacks": SeenCallbacks,
    "job_caller_remover": JobCallerRemover,
    "worker": JobWorker,
}
_EVENTS = ("event", "wake_event", "draining", "handover_requested")
# Other receivers, each with the only method of it that the engine may await.
WAITING_METHODS: dict[str, tuple[type, str]] = {
    **{name: (asyncio.Event, "wait") for name in _EVENTS},
    "watch": (JobWatch, "wait_for_change"),
    "limits": (AccountLimiters, "slot"),
    "periodic_task": (SupervisedTask, "stop"),
    "command": (CreateJobCommand, "is_client_connected"),
}
# Attributes with tasks of this process, whose calls are judged where they are created.
TASKS = {"worker_tasks", "pending", "tasks"}
LOCKS = {"claim_lock", "upload_lock", "attempt_lock"}
# Functions of other packages, by their module: an answer or an image that has arrived is read in a thread; limits are
# read before the job exists, where a crash loses nothing.
HARMLESS_FUNCTIONS = {
    "parse_response": "gateway.upstream.response_parser_thread",
    "convert_image": "gateway.assets.image_conversion",
    "load_raised_limits": "gateway.store.budget_overrides",
}
# Parameters that the engine awaits: the operations of retry loops, whose failpoints are where they are passed.
AWAITED_PARAMETERS = {"operation", "handler", "is_applied", "save_fact", "save_commit", "answer", "task_function"}
# The request of `ModerationClient.ask`, which is itself a failpoint.
EFFECT_METHODS = {("ModerationClient.ask", "self._webhook_client.send")}


class AwaitRules:
    """Judges the awaits of one module."""

    def __init__(self, source: str) -> None:
        self._tree = ast.parse(source)
        # A function of the module hides one of the same name in another module.
        self._awaited_positions = _list_public_awaited_positions() | _list_awaited_positions(self._tree)
        functions = dict(iterate_functions(self._tree))
        self._async_functions = {name for name, node in functions.items() if isinstance(node, ast.AsyncFunctionDef)}
        self._imports = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(self._tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        # Functions that run another one in a thread of this process.
        self._thread_runners = {
            ast.unparse(node.targets[0])
            for node in self._tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("BodyThread(")
        }

    def list_unknown_awaits(self) -> list[str]:
        """Lists the awaits that are neither failpoints nor harmless, and what is passed on to be awaited."""
        return [
            f"{name}: await {ast.unparse(expression)}"
            for name, function in iterate_functions(self._tree)
            for expression in (*_iterate_awaited(function), *self._iterate_passed(function))
            if not self._is_known(expression, name, function)
        ]

    def _iterate_passed(self, function: ast.AST) -> Iterator[ast.expr]:
        """Yields the awaits of operations that are passed to a function of the engine, which awaits them."""
        for node in iterate_own_nodes(function):
            if not isinstance(node, ast.Call):
                continue
            for position, parameter in self._awaited_positions.get(
                ast.unparse(node.func).rpartition(".")[2], {}
            ).items():
                passed = [*node.args[position : position + 1], *_get_keyword_values(node, parameter)]
                yield from (_make_call(operation) for operation in passed)

    def list_outside_functions(self) -> list[str]:
        """Lists the asynchronous functions of other packages and of asyncio that the module uses, even if it does not
        await them itself."""
        imported = [
            f"{module}.{name}"
            for module, name in self._imports.values()
            if module.startswith("gateway.")
            and not module.startswith("gateway.engine.")
            and HARMLESS_FUNCTIONS.get(name) != module
            and inspect.iscoroutinefunction(getattr(import_module(module), name, None))
        ]
        of_asyncio = [
            f"asyncio.{node.attr}"
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "asyncio"
            if inspect.iscoroutinefunction(getattr(asyncio, node.attr)) and node.attr not in WAITING_FUNCTIONS
        ]
        return imported + of_asyncio

    def _is_known(self, expression: ast.expr, name: str, function: ast.AST) -> bool:
        match expression:
            case ast.Call():
                return self._is_known_call(expression, name, function)
            case ast.Name(id=variable):
                return self._is_known_variable(variable, name, function)
            case ast.Starred(value=value) | ast.NamedExpr(value=value):
                return self._is_known(value, name, function)
            case ast.GeneratorExp(elt=element) | ast.ListComp(elt=element):
                return self._is_known(element, name, function)
            case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
                return all(self._is_known(element, name, function) for element in elements)
            case ast.Attribute(attr=attribute):
                return attribute.lstrip("_") in LOCKS | TASKS
            case _:
                return False

    def _is_known_call(self, call: ast.Call, name: str, function: ast.AST) -> bool:
        match call:
            case ast.Call(func=ast.Name(id="partial"), args=[passed, *_]):
                called = passed
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr=attribute), attr="values")):
                return attribute.lstrip("_") in TASKS
            case _:
                called = call.func
        return _is_effect(called, function) or self._is_harmless(called, name, function)

    def _is_known_variable(self, variable: str, name: str, function: ast.AST) -> bool:
        if _is_task(variable, function):
            return True
        if values := _list_values(variable, function):
            return all(self._is_known(value, name, function) for value in values)
        return variable in AWAITED_PARAMETERS & _list_parameters(function)

    def _is_harmless(self, called: ast.expr, name: str, function: ast.AST) -> bool:
        """Returns whether a call is one of the engine itself, or only waits for tasks of this process."""
        match called:
            case ast.Name(id=variable):
                return self._is_harmless_function(variable, name, function)
            case ast.Attribute(value=ast.Name(id="asyncio"), attr=method):
                return method in WAITING_FUNCTIONS | RUNNING_FUNCTIONS
            case ast.Attribute(value=ast.Name(id="self"), attr=method):
                class_name = name.partition(".")[0]
                return f"{class_name}.{method}" in self._async_functions
            case ast.Attribute(value=ast.Attribute(attr=owner) | ast.Name(id=owner), attr=method):
                return _is_harmless_method(owner.lstrip("_"), method) or (name, ast.unparse(called)) in EFFECT_METHODS
            case _:
                return False

    def _is_harmless_function(self, variable: str, name: str, function: ast.AST) -> bool:
        if values := _list_values(variable, function):
            return all(
                self._is_known(value, name, function)
                if isinstance(value, ast.Call)
                else _is_effect(value, function) or self._is_harmless(value, name, function)
                for value in values
            )
        if variable in _list_parameters(function):
            return variable in AWAITED_PARAMETERS
        module, imported_name = self._imports.get(variable, ("", ""))
        return (
            variable in self._async_functions | self._thread_runners
            or module.startswith("gateway.engine.")
            or (module != "" and HARMLESS_FUNCTIONS.get(imported_name) == module)
        )


def _is_effect(called: ast.expr, function: ast.AST) -> bool:
    """Returns whether a call is an effect of a dependency. A variable is one only if it was taken from an attribute of
    that name: another object may have the same methods."""
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        variable = called.value.id
        values = _list_values(variable, function)
        is_dependency = bool(values) and all(
            isinstance(value, ast.Attribute) and value.attr.lstrip("_") == variable for value in values
        )
        return is_dependency and get_effect(called) is not None
    return get_effect(called) is not None


def _is_harmless_method(owner: str, method: str) -> bool:
    if owner in ENGINE_COMPONENTS:
        return inspect.iscoroutinefunction(getattr(ENGINE_COMPONENTS[owner], method, None))
    return owner in WAITING_METHODS and WAITING_METHODS[owner][1] == method


def _iterate_awaited(function: ast.AST) -> Iterator[ast.expr]:
    """Yields each expression that a function awaits or runs as a task, with those of `async with` and `async for`."""
    for node in iterate_own_nodes(function):
        match node:
            case ast.Await(value=value):
                yield value
            case ast.AsyncWith(items=items):
                yield from (item.context_expr for item in items)
            case ast.AsyncFor(iter=iterator) | ast.comprehension(is_async=1, iter=iterator):
                yield iterator
            case ast.Call(func=ast.Attribute(attr=name), args=[started, *_]) if name in TASK_STARTERS:
                yield started
            case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr=name), args=arguments):
                yield from arguments if name in RUNNING_FUNCTIONS else ()


@cache
def _list_public_awaited_positions() -> dict[str, dict[int, str]]:
    """Lists the functions of the engine that await their parameters, and that other modules may call."""
    positions: dict[str, dict[int, str]] = {}
    for path in sorted(ENGINE_FOLDER.glob("*.py")):
        positions |= _list_awaited_positions(ast.parse(path.read_text()))
    return {name: parameters for name, parameters in positions.items() if not name.startswith("_")}


def _list_awaited_positions(tree: ast.AST) -> dict[str, dict[int, str]]:
    """Lists the positions and names of the parameters that the functions of a module await."""
    positions: dict[str, dict[int, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parameters = [parameter for parameter in node.args.args if parameter.arg != "self"]
            if awaited := {
                position: parameter.arg for position, parameter in enumerate(parameters) if _is_awaited(parameter)
            }:
                positions[node.name] = awaited
    return positions


def _is_awaited(parameter: ast.arg) -> bool:
    """Returns whether the source says that a parameter is an operation that the engine awaits."""
    annotation = ast.unparse(parameter.annotation) if parameter.annotation else ""
    return parameter.arg in AWAITED_PARAMETERS and ("Awaitable[" in annotation or "Coroutine[" in annotation)


def _get_keyword_values(call: ast.Call, name: str) -> list[ast.expr]:
    return [keyword.value for keyword in call.keywords if keyword.arg == name]


def _make_call(operation: ast.expr) -> ast.expr:
    """Returns what is awaited when a passed operation is called."""
    match operation:
        case ast.Lambda(body=body):
            return body
        case ast.Attribute():
            return ast.Call(func=operation, args=[], keywords=[])
        case _:
            return operation


def _list_values(variable: str, function: ast.AST) -> list[ast.expr]:
    """Lists what a function assigns to a variable."""
    values = []
    for node in iterate_own_nodes(function):
        match node:
            case ast.Assign(targets=targets, value=value) if variable in map(ast.unparse, targets):
                values.append(value)
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=elements)):
                values += [
                    value for target, value in zip(targets, elements, strict=False) if ast.unparse(target) == variable
                ]
            case ast.NamedExpr(target=ast.Name(id=name), value=value) if name == variable:
                values.append(value)
    return values


def _is_task(variable: str, function: ast.AST) -> bool:
    """Returns whether the source says that a variable holds a task or a future."""
    for node in iterate_own_nodes(function):
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation) if name == variable:
                return ast.unparse(annotation).startswith(("asyncio.Future", "asyncio.Task"))
            case ast.Call(func=ast.Name(id="isinstance"), args=[ast.Name(id=name), kind]) if name == variable:
                return ast.unparse(kind) == "asyncio.Task"
    return False


def _list_parameters(function: ast.AST) -> set[str]:
    return {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
