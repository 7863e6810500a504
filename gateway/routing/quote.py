"""What a request would cost at an offer, worked out beforehand in micro-USD."""

from msgspec import Struct

from gateway.config.blocks import TokenPrices
from gateway.routing.fit import Fit
from providers.orders import ImageRequest
from providers.progress import TokenUsage

# English takes four bytes or more to a token, Chinese three or less.
BYTES_PER_TOKEN = 4
# Sellers count a few tokens of their own: 32 have been seen beside one input image.
MOST_TOKENS_AROUND_PROMPT, MOST_TOKENS_AROUND_IMAGE = 64, 64
# A square of 1024 pixels in four tiles: docs/quirks/openai.md.
EXPECTED_IMAGE_TOKENS = 1_024


class Quote(Struct, frozen=True):
    """`total` is what is expected; `hold` the most that is conceivable.

    Where the seller bills by tokens, both include what goes in, once for each order: `order_price`, `order_ceiling`.
    """

    total: int
    hold: int
    orders: int
    images: int
    order_price: int = 0
    order_ceiling: int = 0

    @property
    def per_image(self) -> int:
        return -(-self.total // self.images)


def quote(fit: Fit, request: ImageRequest) -> Quote:
    price, n = fit.offer.prices[fit.cell], request.n
    orders = -(-n // fit.offer.images_per_order)
    tokens = fit.offer.tokens
    order_price = tokens.charge(_expected_input(tokens, request)) if tokens else 0
    order_ceiling = tokens.charge(_most_input(tokens, request)) if tokens else 0
    return Quote(
        total=price.price * n + order_price * orders,
        hold=price.ceiling * n + order_ceiling * orders,
        orders=orders,
        images=n,
        order_price=order_price,
        order_ceiling=order_ceiling,
    )


def _expected_input(tokens: TokenPrices, request: ImageRequest) -> TokenUsage:
    text = -(-len(request.prompt.encode()) // BYTES_PER_TOKEN)
    image = len(request.sources) * min(EXPECTED_IMAGE_TOKENS, tokens.image_tokens)
    return TokenUsage(input_text=text, input_image=image, output=0)


def _most_input(tokens: TokenPrices, request: ImageRequest) -> TokenUsage:
    """A token covers at least one byte of the prompt, whatever the tokenizer, and a hostile prompt comes near to that.
    A mask is counted like an image: it is not known to be free."""
    images = len(request.sources) + (request.mask is not None)
    text = len(request.prompt.encode()) + MOST_TOKENS_AROUND_PROMPT + images * MOST_TOKENS_AROUND_IMAGE
    return TokenUsage(input_text=text, input_image=images * tokens.image_tokens, output=0)
