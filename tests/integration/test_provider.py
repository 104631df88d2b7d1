"""The provider as Airflow's command line and its connection forms show it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.hooks.connection_form import CONNECTION_TYPE, connection_form_widgets


def airflow(*arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "airflow"), *arguments, "--output", "json"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout  # noqa: S603


def rows(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text[text.index("[{") :])
    return found


@pytest.mark.usefixtures("airflow_database")
def test_airflow_lists_the_provider_its_hook_its_links_and_its_notifier() -> None:
    provider = [row for row in rows(airflow("providers", "list")) if row["package_name"] == "airflow-ee-provider"]
    hook = [row for row in rows(airflow("providers", "hooks")) if row["connection_type"] == "earth_engine"]
    notifications = airflow("providers", "notifications")

    links = airflow("providers", "links")

    assert len(provider) == 1
    assert "airflow_ee_provider.links.earth_engine.EarthEngineTasksLink" in links
    assert "airflow_ee_provider.links.earth_engine.EarthEngineOutputLink" in links
    assert hook[0]["class"] == "airflow_ee_provider.hooks.earth_engine.EarthEngineHook"
    assert hook[0]["hook_name"] == "Google Earth Engine"
    assert "airflow_ee_provider.notifications.earth_engine.EarthEngineCancelOperationsNotifier" in notifications


def test_the_connection_form_hides_its_secret_and_has_every_extra() -> None:
    if airflow_version < "3.2":
        pytest.importorskip("flask_appbuilder", reason="without it, Airflow before 3.2 shows no provider's extras")
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    fields = {name: info for name, info in manager.connection_form_widgets.items() if "earth_engine" in name}

    assert {name.rsplit("__", 1)[-1] for name in fields} >= {"project", "quota_project", "key_path", "keyfile_dict"}
    [secret] = [info for name, info in fields.items() if name.endswith("keyfile_dict")]
    assert secret.is_sensitive
    assert "login" in manager.field_behaviours["earth_engine"]["hidden_fields"]


def test_the_page_of_connections_has_every_extra() -> None:
    """Airflow 3 shows hooks' forms without the library that they are made with, or with mocks of it."""
    services = pytest.importorskip("airflow.api_fastapi.core_api.services.ui.connections")
    if airflow_version < "3.1":
        pytest.importorskip("flask_appbuilder", reason="without it, Airflow 3.0 shows no provider's extras")

    [form] = [form for form in services.HookMetaService.hook_meta_data() if form.connection_type == CONNECTION_TYPE]

    assert set(form.extra_fields) >= {"project", "quota_project", "key_path", "keyfile_dict"}
    assert form.extra_fields["keyfile_dict"]["schema"]["format"] == "password"
    assert form.standard_fields.host.title


@pytest.mark.skipif(AIRFLOW_3, reason="Airflow 3 has forms of its own")
def test_a_connection_that_is_edited_and_saved_keeps_its_key() -> None:
    """Airflow 2.11 deletes an extra whose field comes back empty, and keeps one whose field has its placeholder."""
    from airflow.www.views import SENSITIVE_FIELD_PLACEHOLDER
    from wtforms import Form

    class ConnectionForm(Form):  # type: ignore[misc]
        keyfile_dict = connection_form_widgets()["keyfile_dict"]

    stored = ConnectionForm()
    stored.keyfile_dict.data = "a-key"

    assert f'value="{SENSITIVE_FIELD_PLACEHOLDER}"' in stored.keyfile_dict()
    assert "a-key" not in stored.keyfile_dict()
    assert 'value=""' in ConnectionForm().keyfile_dict()
