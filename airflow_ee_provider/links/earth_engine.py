"""Links from a task in the Airflow UI to its operations and to what they wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName

#: The Cloud Console's page of a project's operations; it has no page for a single one.
TASKS_URL = "https://console.cloud.google.com/earth-engine/tasks?project={project}"

#: The URLs that this process has written, by task instance and key: Airflow 3 reads them again when a task ends.
_written: dict[tuple[str, str, str, int, str], str] = {}


class _PersistedLink(BaseOperatorLink):
    """A link whose URL is an XCom. The task writes it as soon as it is known, so it works while the task runs."""

    name: ClassVar[str]
    key: ClassVar[str]

    @property
    def xcom_key(self) -> str:
        """The XCom's key, from which Airflow 3 reads the URL."""
        return self.key

    @classmethod
    def persist(cls, context: Context, url: str) -> None:
        """Write the URL into the XCom."""
        context["ti"].xcom_push(key=cls.key, value=url)
        _written[cls._of(context["ti"])] = url

    @classmethod
    def _of(cls, ti: Any) -> tuple[str, str, str, int, str]:
        return ti.dag_id, ti.run_id, ti.task_id, getattr(ti, "map_index", -1), cls.key

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the URL, or an empty text if there is none yet."""
        written = _written.get(self._of(ti_key))
        return (XCom.get_value(key=self.key, ti_key=ti_key) or "") if written is None else written


class EarthEngineTasksLink(_PersistedLink):
    """A link to the project's task manager, where users can also cancel operations."""

    name: ClassVar[str] = "Earth Engine Tasks"
    key: ClassVar[str] = "earth_engine_tasks_link"


class EarthEngineOutputLink(_PersistedLink):
    """A link to the export's output: a bucket, a Drive folder, an asset or a table."""

    name: ClassVar[str] = "Export Output"
    key: ClassVar[str] = "earth_engine_output_link"


#: The links of tasks that have operations, and of tasks that start exports.
LINKS = (EarthEngineTasksLink(),)
EXPORT_LINKS = (*LINKS, EarthEngineOutputLink())


def persist_links(context: Context, names: list[OperationName]) -> None:
    """Write the URLs of the pages that show a task's operations; with several projects, those of the first."""
    if names:
        EarthEngineTasksLink.persist(context, TASKS_URL.format(project=names[0].project))
