"""Edits of one account of a running gateway. They end with the block."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.flow.order_flow import OrderFlow
from tests.harness.sandbox_runner import RunningSandbox
from tests.upstream.fake_proxies import PROXY_PASSWORD, PROXY_USER


@contextmanager
def edit_account(flow: OrderFlow, account: str, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Changes the account's entry in `accounts.yaml` and reloads; restores and reloads after the block."""
    path = flow.gateway.folder / "config" / "accounts.yaml"
    before = path.read_text()
    config = json.loads(before)
    change(config["accounts"][account])
    path.write_text(json.dumps(config))
    try:
        flow.gateway.reload_config()
        yield
    finally:
        path.write_text(before)
        flow.gateway.reload_config()


@contextmanager
def configure_proxy(flow: OrderFlow, account: str, url: str) -> Iterator[None]:
    """Gives the account a proxy. Its URL has credentials and is read from a file."""
    proxy_path = flow.gateway.folder / "proxy"
    proxy_path.write_text(url.replace("//", f"//{PROXY_USER}:{PROXY_PASSWORD}@"))
    with edit_account(flow, account, lambda entry: entry.update(proxy=f"file:{proxy_path}")):
        yield


@contextmanager
def move_account(flow: OrderFlow, account: str, target: RunningSandbox) -> Iterator[None]:
    """Changes the account's base URL to that of another sandbox."""

    def change_base_url(entry: dict[str, Any]) -> None:
        entry["base_url"] = entry["base_url"].replace(flow.sandbox.url, target.url)

    with edit_account(flow, account, change_base_url):
        yield
