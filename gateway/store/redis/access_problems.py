"""Explains why Redis refuses a user, or a TLS connection fails, and says what to change."""

from collections.abc import Iterator
from ssl import SSLCertVerificationError, SSLError

from redis.exceptions import AuthenticationError, NoPermissionError

from gateway.store.inspection import StoreProblem

# The rights that a user of its own needs. docs/stores.md shows them, and the tests of the store run with them.
ACL_RULES = (
    "~igw:* &igw:* +@read +@write +@connection +@scripting +@pubsub -@dangerous "
    "+info +config|get +bgrewriteaof +time +client|list +cluster|slots"
)
ACL_REMEDY = f"Run ACL SETUSER <user> {ACL_RULES}"
CLIENT_CERTIFICATE_REMEDY = (
    "If Redis requires a certificate of its clients, add ssl_certfile and ssl_keyfile to its URL."
)
# OpenSSL's codes for a certificate of another host name, and of another IP address.
_MISMATCH_CODES = (62, 64)
_URL_EXAMPLE = "redis://user:password@host:6379/0"


def find_access_problem(error: BaseException | None) -> StoreProblem | None:
    """Returns the problem if this error, or one that caused it, says that Redis refuses the user, or that TLS failed;
    else None."""
    for cause in _iterate_causes(error):
        if isinstance(cause, NoPermissionError):
            return make_permission_problem(str(cause))
        if isinstance(cause, AuthenticationError):
            return _make_authentication_problem(cause)
    return find_tls_problem(error)


def find_tls_problem(error: BaseException | None) -> StoreProblem | None:
    """Returns the problem if this error, or one that caused it, is one of TLS; else None."""
    return next((_make_tls_problem(cause) for cause in _iterate_causes(error) if isinstance(cause, SSLError)), None)


def _iterate_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields the error and those that caused it. The driver raises its own errors without naming their causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def make_permission_problem(text: str) -> StoreProblem:
    message = f"The user in REDIS_URL lacks permissions in Redis: {text.removesuffix('.')}."
    return StoreProblem(message, ACL_REMEDY, loses_jobs=True)


def _make_tls_problem(error: SSLError) -> StoreProblem:
    if not isinstance(error, SSLCertVerificationError):
        message = f"The TLS connection to Redis failed: {error.reason or 'no reason was given'}."
        return StoreProblem(message, CLIENT_CERTIFICATE_REMEDY, loses_jobs=True)
    message = f"The certificate of Redis is not accepted: {error.verify_message.removesuffix('.')}."
    remedy = (
        "Use a host name or IP address that the certificate contains, or add ssl_check_hostname=false to REDIS_URL."
        if error.verify_code in _MISMATCH_CODES
        else "Name the certificate of its authority in REDIS_URL: rediss://…/0?ssl_ca_certs=/path/ca.pem."
    )
    return StoreProblem(message, remedy, loses_jobs=True)


def _make_authentication_problem(error: AuthenticationError) -> StoreProblem:
    if error.status_code == "NOAUTH":
        message = "Redis requires a password, and REDIS_URL has none."
        remedy = f"Set REDIS_URL to {_URL_EXAMPLE}, without a user for the password of `requirepass`."
    else:
        message = "Redis refuses the user or the password in REDIS_URL, or the user is disabled."
        remedy = f"Correct REDIS_URL ({_URL_EXAMPLE}, special characters as %40), or run ACL SETUSER user on >password."
    return StoreProblem(message, remedy, loses_jobs=True)
