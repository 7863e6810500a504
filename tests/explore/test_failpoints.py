"""Every await of the engine is either a failpoint or cannot have an effect outside the process."""

import ast
import inspect
import re
from collections.abc import Iterator

import pytest

from gateway.engine.engine_context import EngineContext
from tests.explore.await_rules import ENGINE_COMPONENTS, WAITING_METHODS, AwaitRules
from tests.explore.failpoints import DEPENDENCIES, ENGINE_FOLDER, list_effect_methods, list_failpoints

# Where the planted statements stand.
PLANTED_MODULE = """
from gateway.engine.seller_queries import poll_order
from gateway.upstream.download import {function}
from somewhere import helper

class Worker:
    async def run(self, context, client, process):
        {statement}

    async def continue_run(self): ...

    async def retry(self, operation: Callable[[], Awaitable[Any]]):
        await operation()
"""


def iterate_engine_modules() -> Iterator[tuple[str, str]]:
    return ((path.stem, path.read_text()) for path in sorted(ENGINE_FOLDER.glob("*.py")))


def test_each_await_of_engine_is_a_failpoint_or_harmless() -> None:
    unknown = [
        f"{module}.{unknown_await}"
        for module, source in iterate_engine_modules()
        for unknown_await in AwaitRules(source).list_unknown_awaits()
    ]
    assert unknown == [], "add a failpoint: let the effect go through a dependency of the engine context"


def test_engine_uses_no_asynchronous_function_of_other_packages() -> None:
    """It might pass one on to its own functions, which await it."""
    used = {
        f"{module} -> {function}"
        for module, source in iterate_engine_modules()
        for function in AwaitRules(source).list_outside_functions()
    }
    assert used == set()


@pytest.mark.parametrize(
    "statement",
    [
        "await context.store.load_job(1)",
        "await self.context.store.load_job(1)",
        "store = self.context.store; await store.load_job(1)",
        "context, store = self.context, self.context.store; await store.load_job(1)",
        "await asyncio.sleep(1)",
        "await self.continue_run()",
        "await poll_order(context)",
        "await asyncio.gather(*(self.continue_run() for _ in range(2)))",
        "await asyncio.gather(poll_order(context), context.store.load_job(1))",
        "checks = [self.continue_run()]; await asyncio.gather(*checks)",
        "await self._wake_event.wait()",
        "await self._job_context.mailbox.post(1)",
        "post = self._job_context.mailbox.post; await post(1)",
        "await self.retry(partial(context.store.load_job, 1))",
        "await self.retry(self.continue_run)",
        "self._job_context.start_task('run', self.continue_run)",
    ],
)
def test_known_await_is_accepted(statement: str) -> None:
    assert AwaitRules(plant(statement)).list_unknown_awaits() == []


@pytest.mark.parametrize(
    "statement",
    [
        "await self.other_store.load_job(1)",
        "await asyncio.to_thread(write_file)",
        "await asyncio.open_connection('seller.example', 443)",
        "async for _ in client.stream(): pass",
        "return [page async for page in client.stream()]",
        "async with client.stream(): pass",
        "async with self._client: pass",
        "await client",
        "await self._answer",
        # A helper outside the engine, in any of the functions that run it.
        "await helper()",
        "await asyncio.gather(helper())",
        "await asyncio.gather(*(helper() for _ in range(2)))",
        "await asyncio.gather(self.continue_run(), helper())",
        "await asyncio.gather(context.store.load_job(1), helper())",
        "await asyncio.shield(helper())",
        "await asyncio.wait([helper()])",
        "await asyncio.wait({helper()})",
        "await asyncio.wait_for(helper(), 1)",
        "asyncio.create_task(helper())",
        "checks = [helper()]; await asyncio.gather(*checks)",
        "asyncio.ensure_future(helper())",
        "loop.create_task(helper())",
        "asyncio.run_coroutine_threadsafe(helper(), loop)",
        # An operation that another function of the engine awaits.
        "await self.retry(lambda: client.send(1))",
        "await self.retry(partial(client.send, 1))",
        "await self.retry(operation=client.send)",
        "self._job_context.start_task('send', lambda: client.send(1))",
        "self._job_context.start_task('send', client.send)",
        "check = helper(); await check",
        "check = helper; await check()",
        "await helper(context.store.load_job(1))",
        # Variables with the names of dependencies.
        "store = helper(); await store.load_job(1)",
        "client, store = client, helper(); await store.load_job(1)",
        "with helper() as storage: await storage.put(1)",
        "store = self.context.store; store = helper(); await store.load_job(1)",
        "load = store.load_job; await load(1)",
        # Names of harmless methods, at other objects.
        "await client.slot()",
        "await process.wait()",
        "await client.stop()",
        "await client.close()",
        "await client.post('https://seller.example')",
        "await self._session.post('https://seller.example')",
        "await self.post()",
        "await client.acquire()",
        "await client.send()",
        "await self._webhook_client.send()",
        "async with client.slot(): pass",
        "await self._mailbox.deliver()",
    ],
)
def test_new_effect_is_found(statement: str) -> None:
    assert len(AwaitRules(plant(statement)).list_unknown_awaits()) == 1


@pytest.mark.parametrize(
    ("statement", "function"),
    [
        ("await self._retry_until_available(partial(fetch_page, 1))", "download as fetch_page"),
        ("await self._retry_until_available(lambda: asyncio.to_thread(write_file))", "DownloadRequest"),
    ],
)
def test_asynchronous_function_that_is_passed_on_is_found(statement: str, function: str) -> None:
    assert AwaitRules(plant(statement, function)).list_outside_functions()


def plant(statement: str, function: str = "DownloadRequest") -> str:
    return PLANTED_MODULE.format(statement=statement, function=function)


def test_variables_are_named_after_their_class() -> None:
    """The rules find the class of a receiver by its name."""
    classes = {name: kind.__name__ for name, kind in ENGINE_COMPONENTS.items()}
    classes |= {name: kind.__name__ for name, (kind, _) in WAITING_METHODS.items()}
    other = [
        f"{module}: {name}: {kind}"
        for module, source in iterate_engine_modules()
        for name, kind in iterate_variable_classes(ast.parse(source))
        if name in classes and classes[name] not in re.split(r"\W+", kind)
    ]
    assert other == []


def iterate_variable_classes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yields the name of each variable, parameter and attribute with the class that the source says it has."""
    for node in ast.walk(tree):
        match node:
            case ast.arg(arg=name, annotation=ast.expr() as annotation):
                yield name.lstrip("_"), ast.unparse(annotation)
            case ast.AnnAssign(target=ast.Name(id=name) | ast.Attribute(attr=name), annotation=annotation):
                yield name.lstrip("_"), ast.unparse(annotation)
            case ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(attr=name)], value=ast.Call(func=called)):
                if (class_name := ast.unparse(called).rpartition(".")[2])[0].isupper():
                    yield name.lstrip("_"), class_name


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
