"""Explains why Redis refuses a user, and says what to change."""

from redis.exceptions import AuthenticationError, NoPermissionError

from gateway.store.inspection import StoreProblem

# The rights that a user of its own needs. docs/stores.md shows them, and the tests of the store run with them.
ACL_RULES = (
    "~igw:* &igw:* +@read +@write +@connection +@scripting +@pubsub -@dangerous "
    "+info +config|get +bgrewriteaof +time +client|list +cluster|slots"
)
ACL_REMEDY = f"Run ACL SETUSER <user> {ACL_RULES}"
_URL_EXAMPLE = "redis://user:password@host:6379/0"


def find_access_problem(error: BaseException | None) -> StoreProblem | None:
    """Returns the problem if this error, or one that caused it, says that Redis refuses the user; else None."""
    while error is not None:
        if isinstance(error, NoPermissionError):
            return make_permission_problem(str(error))
        if isinstance(error, AuthenticationError):
            return _make_authentication_problem(error)
        error = error.__cause__
    return None


def make_permission_problem(text: str) -> StoreProblem:
    message = f"The user in REDIS_URL lacks permissions in Redis: {text.removesuffix('.')}."
    return StoreProblem(message, ACL_REMEDY, loses_jobs=True)


def _make_authentication_problem(error: AuthenticationError) -> StoreProblem:
    if error.status_code == "NOAUTH":
        message = "Redis requires a password, and REDIS_URL has none."
        remedy = f"Set REDIS_URL to {_URL_EXAMPLE}, without a user for the password of `requirepass`."
    else:
        message = "Redis refuses the user or the password in REDIS_URL, or the user is disabled."
        remedy = f"Correct REDIS_URL ({_URL_EXAMPLE}, special characters as %40), or run ACL SETUSER user on >password."
    return StoreProblem(message, remedy, loses_jobs=True)
