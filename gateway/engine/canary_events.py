"""Events of canaries."""

from gateway.events import Event


class CanaryPassed(Event, frozen=True, kw_only=True):
    """The canary of a policy has delivered its images, and charged them as configured. It is now ranked like the other
    sellers wherever it delivers as ordered. Each replica emits it. `images`: all that it has delivered."""

    policy: str
    seller: str
    images: int
