"""The context of request handlers: the components of the application, and the request type of Litestar."""

from collections.abc import Callable
from typing import Any

from litestar import Request
from msgspec import Struct

from gateway.access.budget_administration import BudgetAdministration
from gateway.access.key_administration import KeyAdministration
from gateway.access.key_registry import KeyRegistry
from gateway.access.rate_limiter import RateLimiter
from gateway.access.webhook_administration import WebhookAdministration
from gateway.api.base64_encoder import Base64Encoder
from gateway.api.refused_requests_awaiting_retry import RefusedRequestsAwaitingRetry
from gateway.assets.signed_urls import UrlSigner
from gateway.assets.storage import ImageStorage
from gateway.assets.thumbnails import ThumbnailMaker
from gateway.catalogue import Catalogue
from gateway.engine.engine import Engine
from gateway.store.base import Store
from gateway.timeouts_and_intervals import Timing
from gateway.upstream.input_fetcher import InputFetcher
from gateway.webhooks.stored_targets import StoredTargets

HttpRequest = Request[Any, Any, Any]


class ApiContext(Struct, frozen=True, kw_only=True):
    """The components that request handlers use. `is_draining`: this process accepts no new jobs."""

    engine: Engine
    store: Store
    storage: ImageStorage
    input_fetcher: InputFetcher
    url_signer: UrlSigner
    base64_encoder: Base64Encoder
    refused: RefusedRequestsAwaitingRetry
    thumbnail_maker: ThumbnailMaker
    key_registry: KeyRegistry
    key_administration: KeyAdministration
    budget_administration: BudgetAdministration
    webhook_administration: WebhookAdministration
    stored_targets: StoredTargets
    rate_limiter: RateLimiter
    catalogue: Callable[[], Catalogue]
    wall_clock: Callable[[], float]
    draw_random: Callable[[], float]
    is_draining: Callable[[], bool]

    @property
    def timing(self) -> Timing:
        """The times in force. A reload may change them."""
        return self.engine.context.timing


def get_context(http_request: HttpRequest) -> ApiContext:
    context: ApiContext = http_request.app.state["context"]
    return context
