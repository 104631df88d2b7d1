"""A connection of Google's provider works unchanged: both parsers are compared, where that provider is installed.

`make google` runs this in an environment that has it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tokens import TokenServer

from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

base_google = pytest.importorskip("airflow.providers.google.common.hooks.base_google")

PAGE = Path(__file__).parents[2] / "docs" / "connection.md"


@pytest.fixture(scope="module")
def key() -> dict[str, Any]:
    return TokenServer().key()


def both(extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, str, str]:
    """Return the credentials and projects that both providers read from a connection."""
    connection = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
    theirs, their_project = base_google.GoogleBaseHook().get_credentials_and_project_id()
    account = EarthEngineHook("google_cloud_default").account
    return account.credentials, theirs, account.default_project, their_project


FORMS = {
    "keyfile_dict, text": lambda key, _: {"keyfile_dict": json.dumps(key)},
    "keyfile_dict, object": lambda key, _: {"keyfile_dict": key},
    "keyfile_dict, escaped": lambda key, _: {
        "keyfile_dict": json.dumps({**key, "private_key": key["private_key"].replace("\n", "\\n")})
    },
    "key_path": lambda _, path: {"key_path": str(path)},
    "credential_config_file, path": lambda _, path: {"credential_config_file": str(path)},
    "credential_config_file, text": lambda key, _: {"credential_config_file": json.dumps(key)},
    "credential_config_file, object": lambda key, _: {"credential_config_file": key},
    "prefixed": lambda key, _: {"extra__google_cloud_platform__keyfile_dict": json.dumps(key)},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"project": "another-project"},
        {"scope": "https://www.googleapis.com/auth/earthengine, https://www.googleapis.com/auth/cloud-platform"},
        {"impersonation_chain": "a@p1.iam.gserviceaccount.com,b@p2.iam.gserviceaccount.com"},
        {"impersonation_chain": ["b@p2.iam.gserviceaccount.com"]},
        {"quota_project_id": "pays-for-it"},
        {"num_retries": 3},
    ],
    ids=str,
)
def test_both_providers_read_the_same_from_a_connection(
    key: dict[str, Any], form: str, more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))

    ours, theirs, project, their_project = both({**FORMS[form](key, path), **more}, monkeypatch)

    assert project == their_project
    assert type(ours) is type(theirs)
    assert ours.service_account_email == theirs.service_account_email
    assert ours.quota_project_id == theirs.quota_project_id
    if "scope" in more:
        assert list(ours.scopes or ours._target_scopes) == list(theirs.scopes or theirs._target_scopes)


def test_the_page_names_every_extra_of_googles_provider() -> None:
    from airflow.providers.google import get_provider_info

    [theirs] = [
        kind
        for kind in get_provider_info.get_provider_info()["connection-types"]
        if kind["connection-type"] == "google_cloud_platform"
    ]
    described = set(re.findall(r"`(\w+)`", PAGE.read_text(encoding="utf-8")))

    assert set(theirs["conn-fields"]) <= described
