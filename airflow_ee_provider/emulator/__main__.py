"""``python -m airflow_ee_provider.emulator``: a local Earth Engine operations service."""

from __future__ import annotations

import argparse
import errno
import threading
from contextlib import suppress

from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.emulator.limits import Limits
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service


def main() -> None:
    """Run the emulator until it is interrupted."""
    default = Behaviour()
    parser = argparse.ArgumentParser(prog="python -m airflow_ee_provider.emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s: this machine only)")
    parser.add_argument("--port", type=int, default=8085, help="port to listen at (%(default)s); 0 for a free one")
    for name in ("pending", "run", "cancel"):
        seconds = getattr(default, f"{name}_seconds")
        parser.add_argument(f"--{name}-seconds", type=float, default=seconds, help="default %(default)s")
    parser.add_argument("--requests-per-second", type=int, help="refuse more than that (Earth Engine: 100)")
    parser.add_argument("--concurrent-requests", type=int, help="refuse more than that at once (Earth Engine: 40)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each request takes (%(default)s)")
    options = parser.parse_args()
    behaviour = Behaviour(
        pending_seconds=options.pending_seconds,
        run_seconds=options.run_seconds,
        cancel_seconds=options.cancel_seconds,
    )
    limits = Limits(options.requests_per_second, options.concurrent_requests, options.latency)
    try:
        _serve(Emulator(Service(behaviour, limits=limits), options.host, options.port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        parser.error(f"Port {options.port} of {options.host} is in use. Choose another with --port; 0 for a free one.")


def _serve(emulator: Emulator) -> None:
    with emulator, suppress(KeyboardInterrupt):
        print(f"Earth Engine emulator at {emulator.url}, open to all programs that reach that address.")
        print(f"For Airflow: export AIRFLOW_CONN_EARTH_ENGINE_DEFAULT='{emulator.airflow_connection()}'", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
