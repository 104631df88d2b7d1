"""The differences of Airflow 2 from Airflow 3, for the system tests that boot it."""

from __future__ import annotations

import time
from base64 import b64encode
from functools import cached_property
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, ClassVar

from dev.standalone import StandaloneAirflow

if TYPE_CHECKING:
    from pathlib import Path


class StandaloneAirflow2(StandaloneAirflow):
    """Airflow 2: another REST API, and tasks that write to the database themselves."""

    api_path, health_path = "/api/v1", "/health"
    healthy_parts: ClassVar[tuple[str, ...]] = ("metadatabase", "scheduler", "triggerer")
    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        "webserver": ("webserver", "--hostname", "127.0.0.1", "--workers", "1"),
        "scheduler": ("scheduler", "--skip-serve-logs"),
        "triggerer": ("triggerer", "--skip-serve-logs"),
    }
    run_body: ClassVar[dict[str, Any]] = {}

    def settings(self, dags_folder: Path) -> dict[str, str]:
        return super().settings(dags_folder) | {
            "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(self.port),
            "AIRFLOW__WEBSERVER__BASE_URL": self.url,
            "AIRFLOW__WEBSERVER__WORKERS": "1",
            "AIRFLOW__API__AUTH_BACKENDS": "airflow.providers.fab.auth_manager.api.auth.backend.basic_auth",
            # On SQLite, Airflow 2 runs tasks in parallel only with both of these settings.
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "30",
        }

    def prepare(self) -> None:
        super().prepare()
        names = ("--firstname", "A", "--lastname", "B", "--email", "admin@example.com", "--role", "Admin")
        self.run_command("users", "create", "--username", "admin", f"--password={self._password}", *names)

    @cached_property
    def _password(self) -> str:
        return token_urlsafe()

    @cached_property
    def authorization(self) -> str:
        return f"Basic {b64encode(f'admin:{self._password}'.encode()).decode()}"

    def mark_body(self, state: str) -> dict[str, Any]:
        return {"new_state": state, "dry_run": False}

    def clear(self, dag_id: str, run_id: str, task_id: str) -> float:
        """Clear with the command line: the REST API of 2.11.2 does not affect a running task."""
        date = self.run(dag_id, run_id)["logical_date"]  # Without dates, it would clear the other runs as well.
        dates = ("--start-date", date, "--end-date", date)
        self.run_command("tasks", "clear", "--yes", "--task-regex", f"^{task_id}$", *dates, dag_id)
        return time.time()
