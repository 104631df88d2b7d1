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

#: Seconds for which a process remembers that the metadata server has not answered. To ask one that accepts
#: connections and never answers takes google-auth 12 seconds, for each new hook.
REMEMBERED = 60.0

#: What google-auth reads before it asks the metadata server; with other values, it may find credentials.
_VARIABLES = ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "HOME", "GCE_METADATA_HOST", "GCE_METADATA_IP")

#: When the metadata server was last asked in vain, by the values of these variables.
_absent: dict[tuple[str | None, ...], float] = {}
#: One that the same thread can take again: a signal's handler may need credentials amid a look-up.
_turn = threading.RLock()


def application_default(scopes: Sequence[str]) -> tuple[Any, str]:
    """Return the credentials and their project.

    :raises TransientError: if the metadata server of Google's machines does not answer.
    :raises google.auth.exceptions.DefaultCredentialsError: if there are none, or they cannot be used.
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
    """Whether a file has the credentials, or is to have them: what is wrong with it does not pass."""
    from google.auth import _cloud_sdk

    if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return True
    return Path(_cloud_sdk.get_application_default_credentials_path()).is_file()


def _asks_metadata_server() -> bool:
    from google.auth.compute_engine import _metadata

    # google-auth reads NO_GCE_CHECK once, when it is imported; older versions do not know it.
    return not getattr(_metadata, "_NO_GCE_CHECK", False)
