"""One order at the simulated OpenAI, and its response."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sandbox.fault_injection import InjectedFault
from sandbox.image_renderer import ImageRecipe
from sandbox.openai.errors import OpenaiError
from sandbox.openai.image_params import OpenaiImageParams
from sandbox.openai.prices import BilledTokens
from sandbox.order_simulator import ClientDisconnectedError, InsufficientCreditError, SimulatedOrder, SimulatedOutcome
from sandbox.state import SandboxState
from sandbox.vendors import Vendor


class OpenaiOrder:
    """One order. It runs by itself: a client that disconnects is charged nevertheless."""

    def __init__(self, sandbox: SandboxState, params: OpenaiImageParams, order_id: str) -> None:
        self.sandbox = sandbox
        self.params = params
        self.simulator = sandbox.simulators[Vendor.OPENAI]
        self.order = self._place_order(order_id)

    def _place_order(self, order_id: str) -> SimulatedOrder:
        params, prices = self.params, self.params.model.prices
        order = SimulatedOrder(
            id=order_id,
            price_micros=params.compute_tokens(params.n).compute_charge(prices),
            base_price=params.compute_tokens(0).compute_charge(prices),
            images=params.list_image_recipes(),
            quality=params.quality,
            fault_rules=self.sandbox.fault_injector.take_order_rules(Vendor.OPENAI),
        )
        try:
            return self.simulator.place_order(order)
        except InsufficientCreditError as error:
            raise OpenaiError(429, "insufficient_quota") from error

    @property
    def is_content_refused(self) -> bool:
        """Whether the content is refused, which is answered with an error even if a stream was requested."""
        return InjectedFault.REFUSE_CONTENT in self.order.fault_rules

    async def wait(self, receive: Callable[[], Awaitable[Any]] | None = None) -> None:
        try:
            await self.simulator.wait_for_order(self.order, receive)
        except ClientDisconnectedError as error:
            raise OpenaiError(499, None, "The client disconnected.") from error

    def get_images(self) -> tuple[ImageRecipe, ...]:
        """Returns the images of the finished order, or raises the error that explains why there are none."""
        order = self.order
        if self.is_content_refused:
            raise OpenaiError(400, "moderation_blocked")
        if order.outcome is SimulatedOutcome.FAILED:
            rule = order.fault_rules.get(InjectedFault.FAIL)
            raise OpenaiError(500, rule.code if rule else None, rule.message if rule else None)
        return () if InjectedFault.EMPTY_OUTPUTS in order.fault_rules else order.images

    def compute_tokens(self) -> BilledTokens:
        """Computes the billed tokens: `empty_outputs` is charged too, images that were not generated are not."""
        return self.params.compute_tokens(len(self.order.images))

    def list_common_fields(self) -> dict[str, Any]:
        """Lists the fields that every response and event contains."""
        identifier = self.params.safety_identifier
        return {**self.params.to_json(), **({"safety_identifier": identifier} if identifier else {})}

    async def build_response_body(self) -> dict[str, Any]:
        images = self.get_images()
        body = {
            "created": int(time.time()),
            "data": await asyncio.gather(*(self._serialize_image(index, image) for index, image in enumerate(images))),
            **self.list_common_fields(),
        }
        if self.sandbox.switches.openai.usage:
            body["usage"] = self.compute_tokens().to_json()
        return body

    async def _serialize_image(self, index: int, image: ImageRecipe) -> dict[str, str]:
        switches = self.sandbox.switches.openai
        if switches.image_format == "b64_json":
            return {"b64_json": await self.render_base64(image)}
        file_id = f"{self.order.id}-{index}"
        self.sandbox.file_store.add_image(file_id, image)
        ttl_seconds = -1.0 if InjectedFault.EXPIRED_URL in self.order.fault_rules else switches.link_seconds
        return {"url": self.sandbox.file_store.make_image_url(Vendor.OPENAI, file_id, image.format, ttl_seconds)}

    async def render_base64(self, image: ImageRecipe) -> str:
        return base64.b64encode(await self.sandbox.file_store.render_image(image)).decode()
