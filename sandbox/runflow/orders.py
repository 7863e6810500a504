"""Creation of Runflow's runs: validate the request, place the order, store the run."""

from collections import OrderedDict
from typing import Any

from sandbox.order_simulator import MAX_ORDERS, InsufficientCreditError, SimulatedOrder, SimulatedOutcome
from sandbox.runflow.assets import AssetStore
from sandbox.runflow.callbacks import RunCallbacks
from sandbox.runflow.http_helpers import (
    RunflowError,
    build_error_body,
    build_field_error,
    generate_uuid7,
    is_uuid,
    validation_error,
)
from sandbox.runflow.run_input import MODELS, find_problems, parse_run_input
from sandbox.runflow.runs import RunflowRun, replace_data_uris
from sandbox.source_fetcher import SourceUnreadableError
from sandbox.state import AsyncVendorState, SandboxState
from sandbox.vendors import Vendor

MAX_CALLBACK_URL_CHARACTERS = 2048
MAX_CLIENT_REF_CHARACTERS = 255


class RunflowState(AsyncVendorState[bytes]):
    """The state of the simulated Runflow."""

    def __init__(self, sandbox: SandboxState) -> None:
        super().__init__(sandbox, Vendor.RUNFLOW)
        self.runs: OrderedDict[str, RunflowRun] = OrderedDict()
        self.asset_store = AssetStore(sandbox)
        self.callbacks = RunCallbacks(sandbox)

    def build_error_body(self, status: int, code: str | None = None, message: str | None = None) -> dict[str, Any]:
        return build_error_body(self.sandbox.switches.runflow.error_body, status, code, message)

    def get_run(self, run_id: str) -> RunflowRun:
        if not is_uuid(run_id):
            raise RunflowError(
                422, errors=[build_field_error("Input should be a valid UUID", "run_id", kind="uuid_parsing")]
            )
        if (run := self.runs.get(run_id.lower())) is None:
            raise RunflowError(404, "RUN_NOT_FOUND", "The run was not found.")
        self.simulator.settle_finished()
        return run

    async def place_run(
        self, model: str, fields: dict[str, Any], request: dict[str, Any], idempotency_key: str | None
    ) -> RunflowRun:
        """Validates an input, reserves its price and starts the run."""
        switches = self.sandbox.switches.runflow
        problems = find_problems(fields, MODELS[model], switches)
        if problems and switches.invalid_input_response == "refused":
            raise validation_error(*problems)
        order = await self._build_order(model, fields, problems)
        order.idempotency_key, order.client_ref = idempotency_key, request.get("client_ref")
        order.fault_rules = self.sandbox.fault_injector.take_order_rules(Vendor.RUNFLOW)
        try:
            self.simulator.place_order(order)
        except InsufficientCreditError:
            raise RunflowError(402, switches.no_credit_code) from None
        run = RunflowRun(
            order=order, model=model, input=replace_data_uris(fields), request=request, sandbox=self.sandbox
        )
        self._add_run(run)
        return run

    async def _build_order(self, model: str, fields: dict[str, Any], problems: list[dict[str, Any]]) -> SimulatedOrder:
        if problems:
            return _build_failed_order("INPUT_VALIDATION_FAILED", problems[0]["msg"])
        run_input = parse_run_input(fields, MODELS[model])
        try:
            sources = [await self.asset_store.fetch_image(url) for url in run_input.image_urls]
            if run_input.mask_url is not None:
                await self.asset_store.fetch_image(run_input.mask_url)
        except SourceUnreadableError as error:
            return _build_failed_order("INPUT_VALIDATION_FAILED", f"could not read an input image: {error}")
        price = run_input.get_price(self.sandbox.switches.runflow)
        return SimulatedOrder(
            id=generate_uuid7(),
            price_micros=price,
            images=run_input.list_image_recipes(tuple(sources)),
            quality=run_input.quality,
        )

    def _add_run(self, run: RunflowRun) -> None:
        self.runs[run.order.id] = run
        for number, image in enumerate(run.order.images):
            self.sandbox.file_store.add_image(f"{run.order.id}-{number}", image)
        while len(self.runs) > MAX_ORDERS:
            self.runs.popitem(last=False)


def _build_failed_order(code: str, message: str) -> SimulatedOrder:
    return SimulatedOrder(
        id=generate_uuid7(), price_micros=0, images=(), outcome=SimulatedOutcome.FAILED, failure=(code, message)
    )


def split_request(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits a request into the model's input and the options of the run."""
    run_input, options = (
        body.get("input"),
        {name: body.get(name) for name in ("callback_url", "metadata", "client_ref")},
    )
    errors = []
    if not isinstance(run_input, dict):
        errors.append(build_field_error("Field required", "input"))
    errors += _check_text(options, "callback_url", MAX_CALLBACK_URL_CHARACTERS) + _check_text(
        options, "client_ref", MAX_CLIENT_REF_CHARACTERS
    )
    if options["metadata"] is not None and not isinstance(options["metadata"], dict):
        errors.append(build_field_error("Input should be a valid dictionary", "metadata"))
    if errors or not isinstance(run_input, dict):
        raise validation_error(*errors)
    return run_input, options


def _check_text(options: dict[str, Any], name: str, max_characters: int) -> list[dict[str, Any]]:
    value = options[name]
    if value is None or (isinstance(value, str) and len(value) <= max_characters):
        return []
    return [build_field_error(f"Input should be a string of at most {max_characters} characters", name)]
