"""The fault of an order that was not sent."""

from gateway.engine.input_uploader import OrderNotSent
from gateway.health.concurrency_limiter import SlotTimeout
from providers.faults import Fault, FaultKind
from providers.orders import UnsupportedOrder


def get_unsent_order_fault(error: OrderNotSent | SlotTimeout | UnsupportedOrder) -> Fault:
    match error:
        case OrderNotSent(fault=fault):
            return fault
        case SlotTimeout():
            return Fault(kind=FaultKind.RATE_LIMITED, message="the account had no free slot in time")
        case _:
            return Fault(kind=FaultKind.INVALID_ORDER, message=str(error))
