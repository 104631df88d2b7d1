"""An emulator that lists the operations that `seeding` records: active ones, and a given number of ended ones."""

from __future__ import annotations

import sys
import threading

from seeding import Size, name_of

from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.emulator.operations import Behaviour, EmulatedOperation
from airflow_ee_provider.emulator.service import Service


def main() -> None:
    """Serve until the process is ended. Arguments: how many operations have ended, and how many are active (or all)."""
    ended, active = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    size = Size()
    records = list(size.records())
    running = [one for one in records if size.is_active(*one)][-active if active else 0 :]
    others = [one for one in records if not size.is_active(*one)][-ended:] if ended else []
    service = Service()
    for run, task in sorted([*others, *running]):
        seconds = 1e6 if size.is_active(run, task) else 60
        behaviour = Behaviour(pending_seconds=0, run_seconds=seconds)
        created = size.created(run).timestamp() + 60
        name = name_of(run, task)
        service.operations[name] = EmulatedOperation(name, "image", f"ndvi-{run}-{task}", created, behaviour)
    with Emulator(service, "127.0.0.1", 0) as emulator:
        print(emulator.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
