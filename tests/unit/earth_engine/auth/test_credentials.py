from __future__ import annotations

import base64
import json
import re
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from tokens import FEDERATION

from airflow_ee_provider.earth_engine.auth.credentials import open_account
from airflow_ee_provider.earth_engine.auth.settings import SCOPES, ConnectionSettings, with_overrides
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, EarthEngineError, InvalidRequestError

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = {"host": "http://127.0.0.1:8085", "is_anonymous": True}


@pytest.fixture(scope="session")
def key() -> dict[str, str]:
    """A service account's key, made for the test."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "key-project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "exporter@key-project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


def test_key_is_accepted_as_a_path_as_json_and_as_an_object(key: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))

    for extra in ({"key_path": str(path)}, {"keyfile_dict": json.dumps(key)}, {"keyfile_dict": key}):
        account = open_account(ConnectionSettings.from_extra(extra))
        assert account.project == "key-project"
        assert account.base_url == "https://earthengine.googleapis.com/v1"
        assert list(account.credentials.scopes) == list(SCOPES)


def test_the_extras_of_a_google_cloud_platform_connection_are_understood(key: dict[str, str]) -> None:
    extra = {
        "extra__google_cloud_platform__project": "my-project",
        "extra__google_cloud_platform__keyfile_dict": json.dumps(key),
        "extra__google_cloud_platform__scope": "https://www.googleapis.com/auth/cloud-platform",
        "extra__google_cloud_platform__quota_project": "billed",
        "extra__google_cloud_platform__num_retries": 5,
    }

    account = open_account(ConnectionSettings.from_extra(extra))

    assert account.project == "my-project"
    assert account.credentials.quota_project_id == "billed"
    assert account.credentials.scopes == ("https://www.googleapis.com/auth/cloud-platform",)


def test_workload_identity_federation_and_impersonation(key: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "federation.json"
    path.write_text(json.dumps(FEDERATION))
    federated = open_account(ConnectionSettings.from_extra({"credential_config_file": str(path), "project": "p"}))
    settings = with_overrides(ConnectionSettings.from_extra({"keyfile_dict": key}), "mine", "a@x.iam, b@x.iam")

    impersonating = open_account(settings)

    assert type(federated.credentials).__module__ == "google.auth.identity_pool"
    assert impersonating.credentials.service_account_email == "b@x.iam"
    assert impersonating.credentials._delegates == ["a@x.iam"]
    assert impersonating.project == "mine"


def test_application_default_credentials_are_used_if_nothing_is_configured(
    key: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "adc.json"
    path.write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))

    assert open_account(ConnectionSettings()).project == "key-project"


@pytest.mark.parametrize(
    ("extra", "error", "says"),
    [
        ({"key_path": "/nowhere/key.json"}, CredentialsError, "key_path names no key file"),
        ({"credential_config_file": "/nowhere/key.json"}, CredentialsError, "credential_config_file names no key file"),
        ({"key_path": '{"type": "service_account"}'}, CredentialsError, "Move the key to keyfile_dict"),
        (
            {"keyfile_dict": "RATHER_LONG_SENSITIVE_FIELD_PLACEHOLDER"},
            CredentialsError,
            "Save the connection, then test",
        ),
        ({"idp_issuer_url": "https://idp.example"}, CredentialsError, "idp_issuer_url cannot be used"),
        ({"keyfile_dict": "{"}, CredentialsError, "not a JSON object"),
        ({"keyfile_dict": '{"type": "unknown"}'}, CredentialsError, "no service account's key"),
        ({"key_path": "/a", "keyfile_dict": "{}"}, CredentialsError, "key_path names no key file"),
        ({"key_path": "/a", "keyfile_dict": '{"a": 1}'}, CredentialsError, "more than one source"),
        ({"is_anonymous": True}, CredentialsError, "Anonymous"),
        ({"is_anonymous": True, "host": "https://192.0.2.1"}, CredentialsError, "Anonymous"),
        ({"host": "http://earthengine.googleapis.com"}, InvalidRequestError, "plain http"),
        ({"host": "https://user@x.example"}, InvalidRequestError, "endpoint"),
        ({"host": "https://x.example/path?q"}, InvalidRequestError, "endpoint"),
        ({"host": "ftp://x.example"}, InvalidRequestError, "endpoint"),
        ({"host": "http://[::1"}, InvalidRequestError, "endpoint"),
        ({"host": "http://[::1].evil.example"}, InvalidRequestError, "endpoint"),
        ({**LOCAL, "api_version": "v9"}, InvalidRequestError, "v1, v1beta, v1alpha"),
    ],
)
def test_invalid_connection_is_refused_before_any_request(extra: dict[str, Any], error: Any, says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        open_account(ConnectionSettings.from_extra(extra))


@pytest.mark.parametrize("private_key", ["not a key", 'BEGIN "SECRET" material'])
def test_an_error_never_quotes_a_key(key: dict[str, str], private_key: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        open_account(ConnectionSettings.from_extra({"keyfile_dict": {**key, "private_key": private_key}}))

    assert private_key not in str(caught.value)
    assert caught.value.__cause__ is None


def test_error_about_a_missing_project_says_what_to_do() -> None:
    account = open_account(ConnectionSettings.from_extra({**LOCAL, "api_version": "v1alpha"}))

    assert account.base_url == "http://127.0.0.1:8085/v1alpha"
    with pytest.raises(EarthEngineError, match="Set the connection's project"):
        _ = account.project


def test_settings_show_no_key_in_their_repr(key: dict[str, str]) -> None:
    assert "PRIVATE" not in repr(ConnectionSettings.from_extra({"keyfile_dict": key}))


SECRET = "s3cr3t-m4rk"  # noqa: S105
FORMS = {
    "text": SECRET,
    "path": f"/keys/{SECRET}.json",
    "json": json.dumps({"type": SECRET, "private_key": SECRET, "client_email": SECRET, "token_uri": SECRET}),
    "key": json.dumps({"type": "service_account", "private_key": SECRET, "client_email": "a@b", "token_uri": "x"}),
    "broken json": '{"private_key": "' + SECRET,
    "object": {"type": SECRET, "private_key": SECRET},
    "list": [SECRET],
    "base64": base64.b64encode(json.dumps({"private_key": SECRET}).encode()).decode(),
    "host": f"https://user:{SECRET}@x.example",
}
FIELDS = (
    "project",
    "quota_project",
    "quota_project_id",
    "host",
    "api_version",
    "key_path",
    "keyfile_dict",
    "credential_config_file",
    "key_secret_name",
    "key_secret_project_id",
    "scope",
    "impersonation_chain",
    "is_anonymous",
    "idp_issuer_url",
    "client_secret",
)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("form", FORMS)
def test_values_of_a_connections_fields_are_shown_nowhere(
    field: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    marks = (SECRET, base64.b64encode(SECRET.encode()).decode()[:-4])
    shown = []
    try:
        settings = ConnectionSettings.from_extra({field: FORMS[form]})
        if field in ("key_path", "keyfile_dict", "credential_config_file", "key_secret_name"):
            shown.append(repr(settings))
        open_account(settings)
    except EarthEngineError as error:
        shown += [str(error), repr(error), "".join(traceback.format_exception(error))]

    text = "".join(shown)
    assert not any(mark in text for mark in marks)


def test_error_about_key_path_does_not_suggest_to_paste_a_key_there(tmp_path: Path) -> None:
    (tmp_path / "key.p12").write_text("no JSON")

    with pytest.raises(CredentialsError, match="key_path is not a JSON object") as caught:
        open_account(ConnectionSettings.from_extra({"key_path": str(tmp_path / "key.p12")}))

    assert "Give the path of a key file" in str(caught.value)


def test_project_may_also_be_given_as_project_id() -> None:
    assert ConnectionSettings.from_extra({"project_id": "p"}).project == "p"
    assert ConnectionSettings.from_extra({"project_id": "p", "project": "q"}).project == "q"


def test_key_with_escaped_line_breaks_is_accepted(key: dict[str, str]) -> None:
    escaped = {**key, "private_key": key["private_key"].replace("\n", "\\n")}

    assert open_account(ConnectionSettings.from_extra({"keyfile_dict": json.dumps(escaped)})).project == "key-project"


@pytest.mark.parametrize("form", ["path", "text", "object"])
def test_credential_config_file_may_be_a_path_a_text_or_an_object(
    key: dict[str, str], form: str, tmp_path: Path
) -> None:
    (tmp_path / "key.json").write_text(json.dumps(key))
    given = {"path": str(tmp_path / "key.json"), "text": json.dumps(key), "object": key}[form]

    assert open_account(ConnectionSettings.from_extra({"credential_config_file": given})).project == "key-project"


def test_impersonation_uses_the_project_of_the_impersonated_account(key: dict[str, str]) -> None:
    extra = {"keyfile_dict": key, "impersonation_chain": "ee@their-project.iam.gserviceaccount.com"}

    assert open_account(ConnectionSettings.from_extra(extra)).project == "their-project"
