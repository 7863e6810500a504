"""The status of an account as the seller reports it: the API key is valid, and this is left."""

from msgspec import Struct


class AccountStatus(Struct, frozen=True):
    """The seller accepted the API key. `balance`: prepaid micro-USD, or None if the seller does not say."""

    balance: int | None = None
