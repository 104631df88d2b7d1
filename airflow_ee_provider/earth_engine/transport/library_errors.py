"""What a library raises for one request although its documents do not name it."""

from __future__ import annotations

import os
import sysconfig

from airflow_ee_provider.earth_engine.protocol.effects import NoResponse

#: What a request passes through.
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_LIBRARIES = (
    "requests",
    "urllib3",
    "google",
    "aiohttp",
    "aiohappyeyeballs",
    "aiosignal",
    "frozenlist",
    "yarl",
    "multidict",
    "propcache",
    "idna",
    "charset_normalizer",
    "cryptography",
)


def unexpected(error: Exception) -> NoResponse:
    """Return what stands for such an exception, for example one for an odd header of an answer.

    :raises Exception: the same, if no library has raised it.
    """
    if not _is_of_library(error):
        raise error
    return NoResponse(f"{type(error).__name__}: {error}")


def _is_of_library(error: Exception) -> bool:
    """Whether a library raised it, rather than a signal handler of the task's function that ran amid the request."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename if trace is not None else ""
    # What Cython has compiled has a path without its folder: aiohttp/_http_parser.pyx.
    path = os.sep + file
    return file.startswith((_STANDARD_LIBRARY, "<")) or any(f"{os.sep}{name}{os.sep}" in path for name in _LIBRARIES)
