"""Errors of google-auth: whether they are transient, and which of their words may be shown."""

from __future__ import annotations

import re

#: The error codes of token servers (RFC 6749, 5.2; RFC 8693).
OAUTH_ERRORS = (
    "invalid_grant",
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "invalid_request",
    "access_denied",
)


def redacted_summary(error: BaseException) -> str:
    """Describe why a request for a token has failed, without the server's own text."""
    chain = [error]
    while inner := next(
        (one for one in (chain[-1].__cause__, *chain[-1].args) if isinstance(one, BaseException)), None
    ):
        chain.append(inner)
    words = [word for word in OAUTH_ERRORS if any(re.search(rf"\b{word}\b", str(one)) for one in chain)]
    system = [one.strerror for one in chain if isinstance(one, OSError) and one.errno and one.strerror]
    return ": ".join([type(error).__name__, *words[:1], *system[:1]])


def is_transient(error: BaseException) -> bool:
    """Whether an error of google-auth is transient: a server could not be reached, or has a temporary fault.

    By default, google-auth marks no error as retryable, not even a refused connection. Only a refusal by the token
    server itself is permanent.
    """
    from google.auth.exceptions import TransportError

    if getattr(error, "retryable", False) or isinstance(error, (TransportError, OSError)):
        return True
    inner = [error.__cause__, *error.args]
    return any(isinstance(one, BaseException) and is_transient(one) for one in inner)
