"""The simulated vendors, and the kinds of their routes."""

from enum import StrEnum


class Vendor(StrEnum):
    """A simulated vendor; the value is the first segment of its URLs."""

    RUNFLOW = "runflow"
    RUNAPI = "runapi"
    OPENAI = "openai"


class RouteKind(StrEnum):
    """The kind of a request, which fault rules may name."""

    SUBMIT = "submit"
    POLL = "poll"
    SEARCH = "search"
    UPLOAD = "upload"
    DOWNLOAD = "download"
    ACCOUNT = "account"
