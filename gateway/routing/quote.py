"""What a request would cost at an offer, worked out beforehand in micro-USD."""

from msgspec import Struct

from gateway.routing.fit import Fit


class Quote(Struct, frozen=True):
    """`total` is what is expected; `hold` the most that is conceivable, which is set aside."""

    per_image: int
    total: int
    hold: int
    orders: int


def quote(fit: Fit, n: int) -> Quote:
    price = fit.offer.prices[fit.cell]
    return Quote(price.price, price.price * n, price.ceiling * n, -(-n // fit.offer.images_per_order))
