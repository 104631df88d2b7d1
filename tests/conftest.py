"""An Airflow of the tests' own: it must be said before anything imports Airflow."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import hypothesis
import psutil

from airflow_ee_provider.earth_engine.protocol import waiting

# A timing fails no test, however slow a machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# A shell lets what it runs in the background ignore Ctrl-C, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_HOME = tempfile.mkdtemp(prefix="airflow-ee-provider-")
_CREDENTIALS = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG")

for name in [n for n in os.environ if n.startswith("AIRFLOW_") or n in _CREDENTIALS]:
    del os.environ[name]  # A test must not meet the user's own Airflow, nor his credentials.
os.environ.update(
    {
        "AIRFLOW_HOME": _HOME,
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "integration" / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__OPENLINEAGE__DISABLED": "True",
        "AIRFLOW__EARTH_ENGINE__ALLOWED_HOSTS": "127.0.0.1",  # Of the tests' token servers.
        "AIRFLOW__EARTH_ENGINE__CANCEL_ORPHANS": "False",  # No thread of it in a test's own process.
        "NO_GCE_CHECK": "true",  # google-auth must not look for the metadata server of a Google machine.
    }
)

# What users may not do, and tests may: to poll ten times a second.
waiting.SHORTEST_POLL_INTERVAL = 0.0


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)
    for child in psutil.Process().children():  # What outlives a killed task asks for some minutes.
        with suppress(psutil.Error):
            if any("airflow_ee_provider.earth_engine.transport.detached_cancel" in word for word in child.cmdline()):
                child.kill()
