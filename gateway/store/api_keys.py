"""API keys as a store keeps them: without their secrets, and with the events of what admins did."""

from enum import StrEnum


class Scope(StrEnum):
    """A permission of an API key. Each route requires one scope, or is public."""

    GENERATE = "generate"
    READ = "read"
    ADMIN = "admin"
