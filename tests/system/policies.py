"""The retry policy for tasks of Airflow 3.3 and later."""

from __future__ import annotations

from typing import Any

try:
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule
except ImportError:  # Airflow before 3.3 has no retry policies.
    RetryRule = None

#: A task's arguments: no try follows after a ``ValueError``, although there are ``retries``. Empty before 3.3.
NO_TRY_AFTER_VALUE_ERROR: dict[str, Any] = (
    {"retry_policy": ExceptionRetryPolicy([RetryRule(ValueError, RetryAction.FAIL)])} if RetryRule else {}
)
