"""Estimates the cost of a request at an offer in micro-USD."""

from msgspec import Struct

from gateway.config.offer_schema import TokenPrices
from gateway.routing.fit import Fit
from gateway.routing.routing_request import RoutingRequest
from providers.order_status import TokenUsage

# English text has at least four bytes per token, Chinese at most three.
BYTES_PER_TOKEN = 4
# Sellers count some tokens of their own: 32 were observed with one input image.
MAX_PROMPT_OVERHEAD_TOKENS, MAX_IMAGE_OVERHEAD_TOKENS = 64, 64
# A square of 1024 pixels in four tiles: docs/quirks/openai.md.
EXPECTED_IMAGE_TOKENS = 1_024


class Quote(Struct, frozen=True):
    """Estimated cost: `total` is the expected cost, `ceiling` the highest possible one.

    For sellers that bill by tokens both include the input tokens of each order: `order_price`, `order_ceiling`.
    """

    total: int
    ceiling: int
    orders: int
    images: int
    order_price: int = 0
    order_ceiling: int = 0

    @property
    def per_image(self) -> int:
        return -(-self.total // self.images)


def make_quote(fit: Fit, request: RoutingRequest, charged_price: int | None = None) -> Quote:
    """Estimates the cost of a request at a fitting offer. `charged_price`: what the seller charges per image, if that
    is believed and not the configured price."""
    price, n = fit.offer.prices[fit.cell], request.n
    image_price = price.price if charged_price is None else charged_price
    image_ceiling = raise_ceiling(price.ceiling, charged_price)
    orders = -(-n // fit.offer.images_per_order)
    tokens = fit.offer.token_prices
    order_price = tokens.compute_cost(_estimate_input_tokens(tokens, request)) if tokens else 0
    order_ceiling = tokens.compute_cost(_max_input_tokens(tokens, request)) if tokens else 0
    return Quote(
        total=image_price * n + order_price * orders,
        ceiling=image_ceiling * n + order_ceiling * orders,
        orders=orders,
        images=n,
        order_price=order_price,
        order_ceiling=order_ceiling,
    )


def raise_ceiling(ceiling: int, charged_price: int | None) -> int:
    """Returns the most that an image may cost, also if the seller charges more than configured."""
    return ceiling if charged_price is None else max(ceiling, charged_price)


def _estimate_input_tokens(tokens: TokenPrices, request: RoutingRequest) -> TokenUsage:
    text = -(-request.prompt_bytes // BYTES_PER_TOKEN)
    image = request.input_count * min(EXPECTED_IMAGE_TOKENS, tokens.image_tokens)
    return TokenUsage(input_text=text, input_image=image, output=0)


def _max_input_tokens(tokens: TokenPrices, request: RoutingRequest) -> TokenUsage:
    """Returns an upper bound of the tokens. A token covers at least one byte of the prompt with any tokenizer. A mask
    counts like an image, since sellers may bill it."""
    images = request.input_count + request.has_mask
    text = request.prompt_bytes + MAX_PROMPT_OVERHEAD_TOKENS + images * MAX_IMAGE_OVERHEAD_TOKENS
    return TokenUsage(input_text=text, input_image=images * tokens.image_tokens, output=0)
