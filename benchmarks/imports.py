"""The cost of importing a module in a DAG file, in addition to Airflow's own imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median

from serving import table

#: What every DAG file imports.
BASE = "from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator, BaseNotifier, task"
OURS = {
    f"airflow_ee_provider.{name}": f"import airflow_ee_provider.{name}"
    for name in (
        "operators.earth_engine",
        "sensors.earth_engine",
        "decorators.earth_engine",
        "notifications.earth_engine",
        "hooks.earth_engine",
        "triggers.earth_engine",
        "records",
    )
}
PEER = {
    "airflow.providers.google.cloud.operators.dataproc": "import airflow.providers.google.cloud.operators.dataproc",
}
SCRIPT = """
import json, time, psutil
{base}
process = psutil.Process()
memory, started = process.memory_info().rss, time.perf_counter()
{module}
print(json.dumps([(time.perf_counter() - started) * 1000, (process.memory_info().rss - memory) / 2**20]))
"""
REPEATED = 7


def measure(module: str, python: str) -> tuple[float, float]:
    """Return the median milliseconds and MiB of an import, each in a new process."""
    script = SCRIPT.format(base=BASE, module=module)
    command = [python, "-W", "ignore", "-c", script]
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = []
    for _ in range(REPEATED):
        output = subprocess.run(command, check=True, capture_output=True, text=True, env=compiled).stdout
        found.append(json.loads(output.splitlines()[-1]))
    return median(ms for ms, _ in found), median(mib for _, mib in found)


def main() -> None:
    """Measure all modules, and print the table."""
    rows = [[f"`{name}`", *map("{:.1f}".format, measure(module, sys.executable))] for name, module in OURS.items()]
    # Google's provider needs hundreds of packages, so it is installed in a separate environment.
    if peer := os.environ.get("PYTHON_WITH_GOOGLE"):
        rows += [[f"`{name}`", *map("{:.1f}".format, measure(module, peer))] for name, module in PEER.items()]
    print("RESULT")
    print(f"In addition to `{BASE}`, in a new process each; the median of {REPEATED}.\n")
    print(table(rows, "module", "ms", "MiB"))


if __name__ == "__main__":
    main()
