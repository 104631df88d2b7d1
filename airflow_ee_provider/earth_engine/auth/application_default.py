"""The account of the machine: Application Default Credentials, as google-auth finds them."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds for which a process remembers that the metadata server has not answered. Otherwise, for each new hook,
#: google-auth would wait 12 seconds for a server that accepts connections and never answers.
REMEMBERED = 60.0

#: Variables that google-auth reads before it asks the metadata server. With other values, it may find credentials.
_VARIABLES = ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "HOME", "GCE_METADATA_HOST", "GCE_METADATA_IP")

#: When the metadata server last did not answer, by the values of these variables.
_absent: dict[tuple[str | None, ...], float] = {}
#: A reentrant lock: a signal handler may need credentials while its thread loads them.
_turn = threading.RLock()


def application_default(scopes: Sequence[str]) -> tuple[Any, str]:
    """Return the credentials and their project.

    :raises TransientError: If the metadata server of Google's machines does not answer.
    :raises google.auth.exceptions.DefaultCredentialsError: If there are no credentials, or they cannot be used.
    """
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    with _turn:
        environment = tuple(os.environ.get(name) for name in _VARIABLES)
        asked = _absent.get(environment)
        if asked is not None and time.monotonic() - asked < REMEMBERED and not _has_file():
            raise _no_answer()
        try:
            credentials, project = google.auth.default(scopes=scopes)
        except DefaultCredentialsError:
            if not _asks_metadata_server() or _has_file():
                raise
            _absent[environment] = time.monotonic()
            raise _no_answer() from None
        return credentials, project or ""


def _no_answer() -> TransientError:
    return TransientError(
        "This machine has no file of Application Default Credentials, and the metadata server of Google's machines "
        "does not answer.",
        remedy="On a machine that is not Google's: set GOOGLE_APPLICATION_CREDENTIALS, or the connection's key_path, "
        "keyfile_dict or key_secret_name; with NO_GCE_CHECK=true, the metadata server is not asked.",
    )


def _has_file() -> bool:
    """Whether a file exists for the credentials, or a variable names one. An error of that file is permanent."""
    from google.auth import _cloud_sdk

    if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return True
    return Path(_cloud_sdk.get_application_default_credentials_path()).is_file()


def _asks_metadata_server() -> bool:
    from google.auth.compute_engine import _metadata

    # google-auth reads NO_GCE_CHECK once, when it is imported; older versions do not know it.
    return not getattr(_metadata, "_NO_GCE_CHECK", False)
