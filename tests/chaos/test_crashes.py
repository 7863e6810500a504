"""kill -9 at random moments, again and again: nothing is lost, nothing is bought twice, and the books say so."""

import io
import random
import time
from base64 import b64encode

from PIL import Image

from tests.chaos import books
from tests.chaos.clients import Order, Persistent
from tests.chaos.configs import SELLERS
from tests.chaos.gateways import Gateway, until
from tests.chaos.places import LEASE, Stored
from tests.vendors import Vendors

JOBS, KILLS = 100, 30
SEEDS = {"sqlite": 41, "redis": 42}
ORDERS_SECONDS = 30.0
SETTLING_SECONDS = 60.0


def _drawn() -> str:
    """A picture to edit, as a data URI."""
    drawn = io.BytesIO()
    Image.new("RGB", (512, 512), "teal").save(drawn, "png")
    return f"data:image/png;base64,{b64encode(drawn.getvalue()).decode()}"


INPUT = _drawn()


def test_a_hundred_jobs_survive_thirty_kills(stored: Stored, sandbox: Vendors) -> None:
    seed = SEEDS[stored.kind]
    dice = random.Random(seed)  # noqa: S311 - it must be repeatable
    sandbox.latency(0.6, 0.2)
    gateway = Gateway(stored.folder, stored.config, stored.environ)
    orders = [_order(number) for number in range(JOBS)]
    gateway.start()
    clients = Persistent([gateway.url], orders, ORDERS_SECONDS, seed)
    try:
        for _ in range(KILLS):
            time.sleep(_a_life(dice))
            gateway.kill()
            gateway.start()
        clients.finished()
        found = until(lambda: _settled(gateway, stored), "all is settled", seconds=SETTLING_SECONDS)
    finally:
        clients.close()
        gateway.discard()
    edits = sum(order.image is not None for order in orders)
    print(f"seed {seed}, {edits} edits, {found.endings()}, {clients.replays} replays")
    assert len(clients.acknowledged) == JOBS
    books.assert_in_order(found, clients.acknowledged.values())
    assert len(found.jobs) == JOBS
    assert [name for name, job in found.jobs.items() if job.abandoned] == [], "no job killed its worker"
    books.assert_invoice_is_explained(found, sandbox)


def _order(number: int) -> Order:
    """Every third is an edit, whose input is kept, and sent or uploaded; but where edits are not sold."""
    seller = SELLERS[number % len(SELLERS)]
    image = INPUT if number % 3 == 0 and seller != "openai" else None
    return Order(f"key-{number:03}", seller, image)


def _a_life(dice: random.Random) -> float:
    """Some end before they have done anything, some in the midst of it, few late."""
    return dice.choice((dice.uniform(0.0, 0.3), dice.uniform(0.3, 1.5), dice.uniform(1.0, 2.5)))


def _settled(gateway: Gateway, stored: Stored) -> books.Books | None:
    """The books, once nobody has anything left to do; read when the gateway is gone, which SQLite asks for."""
    if not gateway.is_idle_for(LEASE + 1.5):
        return None
    gateway.stop()
    found = books.read(stored.make)
    if found.unsettled():
        gateway.start()
        return None
    return found
