"""Taking Runflow's orders: what a request must look like, what it costs, what becomes of it."""

from collections import OrderedDict
from typing import Any

from sandbox.idempotency import Replays
from sandbox.mischief import Vendor
from sandbox.runflow_assets import Assets
from sandbox.runflow_callbacks import Caller
from sandbox.runflow_input import MODELS, problems, wanted
from sandbox.runflow_runs import Run, stored_input
from sandbox.runflow_wire import RefusalError, error_body, field_error, invalid, is_uuid, uuid7
from sandbox.shop import KEPT_ORDERS, Order, Outcome, OutOfCreditError
from sandbox.sources import UnreadableError
from sandbox.world import World

MAX_CALLBACK_URL = 2048
MAX_CLIENT_REF = 255


class Runflow:
    """Everything this vendor remembers."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shop = world.shops[Vendor.RUNFLOW]
        self.replays: Replays[bytes] = Replays()
        self.runs: OrderedDict[str, Run] = OrderedDict()
        self.assets = Assets(world)
        self.caller = Caller(world)

    def error(self, status: int, code: str | None = None, message: str | None = None) -> dict[str, Any]:
        return error_body(self.world.switches.runflow.error_body, status, code, message)

    def run(self, run_id: str) -> Run:
        if not is_uuid(run_id):
            raise RefusalError(422, errors=[field_error("Input should be a valid UUID", "run_id", kind="uuid_parsing")])
        if (run := self.runs.get(run_id.lower())) is None:
            raise RefusalError(404, "RUN_NOT_FOUND", "The run was not found.")
        self.shop.settle()
        return run

    async def place(self, model: str, given: dict[str, Any], request: dict[str, Any], key: str | None) -> Run:
        """Checks an input, takes the money aside and starts the work."""
        switches = self.world.switches.runflow
        wrong = problems(given, MODELS[model], switches)
        if wrong and switches.bad_input == "refused":
            raise invalid(*wrong)
        order = await self._order(model, given, wrong)
        order.idempotency_key, order.client_ref = key, request.get("client_ref")
        order.mischief = self.world.mischief.take_for_order(Vendor.RUNFLOW)
        try:
            self.shop.place(order)
        except OutOfCreditError:
            raise RefusalError(402, switches.no_credit_code) from None
        run = Run(order=order, model=model, input=stored_input(given), request=request, world=self.world)
        self._keep(run)
        return run

    async def _order(self, model: str, given: dict[str, Any], wrong: list[dict[str, Any]]) -> Order:
        if wrong:
            return _failed("INPUT_VALIDATION_FAILED", wrong[0]["msg"])
        want = wanted(given, MODELS[model])
        try:
            sources = [await self.assets.picture(url) for url in want.image_urls]
            if want.mask_url is not None:
                await self.assets.picture(want.mask_url)
        except UnreadableError as error:
            return _failed("INPUT_VALIDATION_FAILED", f"could not read an input image: {error}")
        price = want.price(self.world.switches.runflow)
        return Order(id=uuid7(), price=price, pictures=want.pictures(tuple(sources)), quality=want.quality)

    def _keep(self, run: Run) -> None:
        self.runs[run.order.id] = run
        for number, picture in enumerate(run.order.pictures):
            self.world.files.add(f"{run.order.id}-{number}", picture)
        while len(self.runs) > KEPT_ORDERS:
            self.runs.popitem(last=False)


def _failed(code: str, message: str) -> Order:
    return Order(id=uuid7(), price=0, pictures=(), outcome=Outcome.FAILED, reason=(code, message))


def parts(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's input, and what the request says beside it."""
    given, rest = body.get("input"), {name: body.get(name) for name in ("callback_url", "metadata", "client_ref")}
    wrong = []
    if not isinstance(given, dict):
        wrong.append(field_error("Field required", "input"))
    wrong += _text_problems(rest, "callback_url", MAX_CALLBACK_URL) + _text_problems(rest, "client_ref", MAX_CLIENT_REF)
    if rest["metadata"] is not None and not isinstance(rest["metadata"], dict):
        wrong.append(field_error("Input should be a valid dictionary", "metadata"))
    if wrong or not isinstance(given, dict):
        raise invalid(*wrong)
    return given, rest


def _text_problems(rest: dict[str, Any], name: str, most: int) -> list[dict[str, Any]]:
    value = rest[name]
    if value is None or (isinstance(value, str) and len(value) <= most):
        return []
    return [field_error(f"Input should be a string of at most {most} characters", name)]
