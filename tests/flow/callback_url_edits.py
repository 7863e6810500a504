"""The URLs at which sellers call back."""

import json

from tests.flow.flow_config import VENDOR_BY_SELLER
from tests.flow.order_flow import OrderFlow


def get_callback_url(flow: OrderFlow, seller: str) -> str:
    """Returns the callback URL in the seller's last order. Skips orders whose body the sandbox has not read yet."""
    bodies = [order["body"] for order in flow.sandbox.list_requests(VENDOR_BY_SELLER[seller], "submit")]
    return str(json.loads([body for body in bodies if body][-1])["callback_url"])


def change_callback_url(url: str, **parts: str) -> str:
    base, adapter, job, attempt, signature = url.rsplit("/", 4)
    segments = {"adapter": adapter, "job": job, "attempt": attempt, "signature": signature, **parts}
    return "/".join([base, segments["adapter"], segments["job"], segments["attempt"], segments["signature"]])
