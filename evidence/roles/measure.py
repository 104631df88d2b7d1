"""``make roles``: what users see and cancel on the page, by role and auth manager: ``docs/results/roles.md``.

Each auth manager has an API server's app in a process of its own. The page's responses are compared with Airflow's own
responses to the same user. The exit code says whether both agree.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from managers import DAG_ID, MANAGERS
from tabulate import tabulate

from dev.evidence import stamp

if TYPE_CHECKING:
    from managers import Manager

DAGS = Path(__file__).parents[2] / "tests" / "integration" / "dags"

PAGE = """# Roles: who sees and cancels what on the page

`make roles` signs in as a user of each role on Airflow {airflow}, opens the page in Airflow's UI, and writes
this page. *Of a DAG*: an operation that a task of a DAG owns. *Of no task*: an operation that no task owns; for it, a
user needs the connection. `make roles` also sends each user's requests to Airflow's own REST API, and fails if Airflow
does not let the same users read the DAG's runs, edit the task instance, read the connection, and edit the connection.

Measured: {stamp}. Auth managers: {managers}.

{table}

{notes}
"""

HEADERS = ["auth manager", "role", "opens the page", "sees: of a DAG", "cancels it", "sees: of no task", "cancels it"]


def asked(manager: Manager) -> dict[str, list[bool]]:
    """Return the page's results by role, each followed by Airflow's own; called in a process of its own."""
    from airflow.utils.db import initdb
    from fastapi.testclient import TestClient

    from airflow_ee_provider.emulator import Emulator

    with Emulator() as emulator:
        os.environ["AIRFLOW_CONN_EARTH_ENGINE_DEFAULT"] = emulator.airflow_connection()
        initdb()
        emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=3600)
        owned, unowned = emulator.service.add("owned"), emulator.service.add("unowned")
        run_id = _run(owned)
        from airflow.api_fastapi.app import create_app

        with TestClient(create_app(apps="core"), raise_server_exceptions=False) as api:
            return {
                role: _row(api, {"Authorization": f"Bearer {token}"}, owned, unowned, run_id)
                for role, token in manager.tokens().items()
            }


def _run(name: str) -> str:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    return str(DagBag(str(DAGS)).dags[DAG_ID].test(run_conf={"operation_names": [name]}).run_id)


def _row(api: Any, headers: dict[str, str], owned: str, unowned: str, run_id: str) -> list[bool]:
    def is_let(method: str, path: str, body: Any = None) -> bool:
        return api.request(method, path, headers=headers, json=body).status_code not in (401, 403)

    answer = api.get("/earth-engine/operations", headers=headers)
    seen = {one["name"] for one in answer.json()["operations"]} if answer.status_code == 200 else set()

    def is_cancelled(name: str) -> bool:
        asked = api.post("/earth-engine/operations/cancel", headers=headers, json={"operation_names": [name]})
        return bool(asked.status_code == 200)

    run = f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}"
    connection = "/api/v2/connections/earth_engine_default"
    edited = {"connection_id": "earth_engine_default", "conn_type": "earth_engine"}
    return [
        answer.status_code == 200,
        *(owned in seen, is_let("GET", run)),
        *(is_cancelled(owned), is_let("PATCH", f"{run}/taskInstances/task/dry_run", {"new_state": "failed"})),
        *(unowned in seen, is_let("GET", connection)),
        *(is_cancelled(unowned), is_let("PATCH", connection, edited)),
    ]


def measured(manager: Manager) -> dict[str, list[bool]]:
    """Call `asked` in a process of its own."""
    with TemporaryDirectory() as home:
        settings = {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__EARTH_ENGINE__CANCEL_ORPHANS": "False",
            "AIRFLOW__OPENLINEAGE__DISABLED": "True",
            "NO_GCE_CHECK": "true",
        }
        own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        path = Path(home) / "asked.json"
        command = [sys.executable, __file__, "--ask", manager.name, str(path)]
        subprocess.run(command, env=own | settings | manager.settings(), check=True)
        found: dict[str, list[bool]] = json.loads(path.read_text(encoding="utf-8"))
        return found


def main() -> int:
    """Write the page; return 1 if the page and Airflow differ for a user."""
    if sys.argv[1] == "--ask":
        Path(sys.argv[3]).write_text(json.dumps(asked(MANAGERS[sys.argv[2]]())), encoding="utf-8")
        return 0
    rows, notes, differences = [], [], 0
    for kind in MANAGERS.values():
        with kind() as manager:
            for role, (opens, *pairs) in measured(manager).items():
                ours, airflows = pairs[::2], pairs[1::2]
                if ours != airflows:
                    differences += 1
                    print(f"{manager.name}, {role}: the page {ours}, Airflow {airflows}", file=sys.stderr)
                rows.append([manager.name, role, *("yes" if one else "no" for one in (opens, *ours))])
            notes += [f"- {manager.name}, {role}: {text}." for role, text in manager.notes.items()]
    managers = ", ".join(
        f"{name} {version(f'apache-airflow-providers-{name.lower()}')}" for name in ("FAB", "Keycloak")
    )
    text = PAGE.format(
        airflow=version("apache-airflow"),
        stamp=stamp("roles"),
        managers=f"Airflow's simple one, {managers} (Keycloak's server is the tests' own)",
        table=tabulate(rows, HEADERS, tablefmt="github"),
        notes="\n".join(notes),
    )
    Path(sys.argv[1]).write_text(text, encoding="utf-8")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
