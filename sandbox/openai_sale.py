"""One sale: the order behind a request, and what OpenAI says about it in the end."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sandbox.mischief import Kind, Vendor
from sandbox.openai_errors import RefusedError
from sandbox.openai_prices import Usage
from sandbox.openai_request import Wanted
from sandbox.pictures import Picture
from sandbox.shop import ClientLeftError, Order, Outcome, OutOfCreditError
from sandbox.world import World


class Sale:
    """From here on the order runs by itself: a caller who leaves is charged all the same."""

    def __init__(self, world: World, wanted: Wanted, sale_id: str) -> None:
        self.world = world
        self.wanted = wanted
        self.shop = world.shops[Vendor.OPENAI]
        self.order = self._place(sale_id)

    def _place(self, sale_id: str) -> Order:
        wanted, prices = self.wanted, self.wanted.model.prices
        order = Order(
            id=sale_id,
            price=wanted.usage(wanted.n).charge(prices),
            base=wanted.usage(0).charge(prices),
            pictures=wanted.pictures(),
            quality=wanted.quality,
            mischief=self.world.mischief.take_for_order(Vendor.OPENAI),
        )
        try:
            return self.shop.place(order)
        except OutOfCreditError as error:
            raise RefusedError(429, "insufficient_quota") from error

    @property
    def refused(self) -> bool:
        """A refusal of content is an answer of its own even to those who asked for a stream."""
        return Kind.REFUSE_CONTENT in self.order.mischief

    async def over(self, receive: Callable[[], Awaitable[Any]] | None = None) -> None:
        try:
            await self.shop.wait(self.order, receive)
        except ClientLeftError as error:
            raise RefusedError(499, None, "The client left.") from error

    def made(self) -> tuple[Picture, ...]:
        """What is delivered, once the order is over; or the refusal that says why nothing is."""
        order = self.order
        if self.refused:
            raise RefusedError(400, "moderation_blocked")
        if order.outcome is Outcome.FAILED:
            rule = order.mischief.get(Kind.FAIL)
            raise RefusedError(500, rule.code if rule else None, rule.message if rule else None)
        return () if Kind.EMPTY_OUTPUTS in order.mischief else order.pictures

    def usage(self) -> Usage:
        """Exactly what the invoice charges: `empty_outputs` is charged too, pictures that were never made are not."""
        return self.wanted.usage(len(self.order.pictures))

    def common(self) -> dict[str, Any]:
        """What every answer and event says about the pictures."""
        identifier = self.wanted.safety_identifier
        return {**self.wanted.effective(), **({"safety_identifier": identifier} if identifier else {})}

    async def answer(self) -> dict[str, Any]:
        made = self.made()
        answer = {
            "created": int(time.time()),
            "data": await asyncio.gather(*(self._delivered(index, picture) for index, picture in enumerate(made))),
            **self.common(),
        }
        if self.world.switches.openai.usage:
            answer["usage"] = self.usage().shown()
        return answer

    async def _delivered(self, index: int, picture: Picture) -> dict[str, str]:
        switches = self.world.switches.openai
        if switches.delivers == "b64_json":
            return {"b64_json": await self.drawn(picture)}
        file_id = f"{self.order.id}-{index}"
        self.world.files.add(file_id, picture)
        seconds = -1.0 if Kind.EXPIRED_URL in self.order.mischief else switches.link_seconds
        return {"url": self.world.files.link(Vendor.OPENAI, file_id, picture.format, seconds)}

    async def drawn(self, picture: Picture) -> str:
        return base64.b64encode(await self.world.files.draw(picture)).decode()
