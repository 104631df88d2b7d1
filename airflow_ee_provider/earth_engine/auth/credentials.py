"""The account that calls Earth Engine: loads its credentials from a connection's settings."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.auth.application_default import application_default
from airflow_ee_provider.earth_engine.auth.google_auth_errors import is_transient
from airflow_ee_provider.earth_engine.auth.sessions import authorized_session
from airflow_ee_provider.earth_engine.auth.settings import SCOPES
from airflow_ee_provider.earth_engine.auth.trust import Trust, check_info, check_token_may_go_to, endpoint_of, is_local
from airflow_ee_provider.earth_engine.model.errors import (
    CredentialsError,
    EarthEngineError,
    InvalidRequestError,
    TransientError,
)
from airflow_ee_provider.earth_engine.model.operation_names import OperationName, check_project

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from airflow_ee_provider.earth_engine.auth.settings import ConnectionSettings

API_VERSIONS = ("v1", "v1beta", "v1alpha")
#: Values that Airflow's forms send for a secret that the user has not changed.
_PLACEHOLDERS = ("***", "RATHER_LONG_SENSITIVE_FIELD_PLACEHOLDER")

#: The most bytes of a key file. A real one has some kilobytes.
_LARGEST_KEY_FILE = 100_000

_PRINCIPAL = re.compile(r"[^@]+@(?P<project>[^.@]+)\.iam\.gserviceaccount\.com")
_SECRET_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")

_WHERE_FROM = "Configure Application Default Credentials, or set key_path, keyfile_dict or key_secret_name."


@dataclass(frozen=True)
class Account:
    """The credentials and the endpoint with which a transport sends requests."""

    base_url: str
    credentials: Credentials
    default_project: str = ""
    trust: Trust = field(default_factory=Trust)

    def trusts(self, address: str) -> bool:
        """Whether the token may be sent to another endpoint, such as Earth Engine's own for many small requests."""
        try:
            url = endpoint_of(address)
            if self.is_anonymous:
                return is_local(url)
            check_token_may_go_to(url, self.credentials, self.trust)
        except EarthEngineError:
            return False
        return True

    @property
    def is_anonymous(self) -> bool:
        """Whether the account has no credentials. It may then only call a server on this machine."""
        from google.auth.credentials import AnonymousCredentials

        return isinstance(self.credentials, AnonymousCredentials)

    @property
    def endpoint(self) -> str:
        """The API's address, without its version: ``https://earthengine.googleapis.com``."""
        return self.base_url.rpartition("/")[0]

    @property
    def project(self) -> str:
        """The Cloud project that runs the operations.

        :raises CredentialsError: If neither the connection nor the credentials name a project.
        """
        if not self.default_project:
            raise CredentialsError(
                "There is no Cloud project for requests to Earth Engine.",
                remedy="Set the connection's project, or pass project_id.",
            )
        return self.default_project

    def name(self, text: str | OperationName) -> OperationName:
        """Parse an operation's name; a bare id belongs to the account's project."""
        return OperationName.parse(text, self.default_project)

    def names(self, texts: Any) -> list[OperationName]:
        """Parse one name, several, or none."""
        return OperationName.parse_all(texts, self.default_project)


def open_account(settings: ConnectionSettings) -> Account:
    """Load the credentials that the settings name.

    :raises CredentialsError: If there are no credentials, or they cannot be used.
    :raises InvalidRequestError: If no token may be sent to the endpoint, or the API has no such version.
    """
    url = endpoint_of(settings.host)
    if settings.api_version not in API_VERSIONS:
        raise InvalidRequestError(f"The connection's api_version is not one of {', '.join(API_VERSIONS)}.")
    if settings.is_anonymous and not is_local(url):
        raise CredentialsError("Anonymous calls are only for an emulator on this machine.", remedy=_WHERE_FROM)
    credentials, project = _credentials(settings)
    if not settings.is_anonymous:
        check_token_may_go_to(url, credentials, settings.trust)
    base_url = f"{url.scheme}://{url.netloc}/{settings.api_version}"
    if settings.impersonation_chain:
        credentials = _impersonate(credentials, settings)
    if settings.quota_project and hasattr(credentials, "with_quota_project"):
        credentials = credentials.with_quota_project(_checked_project(settings.quota_project, "quota project"))
    project = _checked_project(settings.project or _impersonated(settings) or project)
    return Account(base_url, credentials, project, settings.trust)


def _impersonated(settings: ConnectionSettings) -> str:
    """Return the project of the impersonated service account; empty if there is none, or its name has no project."""
    chain = settings.impersonation_chain
    match = _PRINCIPAL.fullmatch(chain[-1]) if chain else None
    return match["project"] if match else ""


def _checked_project(project: str, what: str = "project") -> str:
    try:
        return check_project(project) if project else ""
    except EarthEngineError:  # Its text is not shown: it may be a secret in the wrong field.
        raise CredentialsError(
            f"The connection's {what} is not a Cloud project id.", remedy="Give an id such as my-project."
        ) from None


def _credentials(settings: ConnectionSettings) -> tuple[Any, str]:
    """Load the credentials. No error shows the value of a setting, since any field may contain a key by mistake."""
    from google.auth.credentials import AnonymousCredentials

    sources = {
        "is_anonymous": settings.is_anonymous,
        "key_path": settings.key_path,
        "keyfile_dict": settings.keyfile,
        "credential_config_file": settings.config,
        "key_secret_name": settings.key_secret_name,
    }
    if len(given := [name for name, value in sources.items() if value]) > 1:
        raise CredentialsError(
            f"The connection names more than one source of credentials: {', '.join(given)}.", remedy="Keep one of them."
        )
    source = given[0] if given else ""
    if source == "is_anonymous":
        return AnonymousCredentials(), ""
    try:
        return _load(source, settings)
    except EarthEngineError:
        raise
    except Exception as error:  # noqa: BLE001 (google-auth, json, cryptography: none of their texts may be shown)
        if is_transient(error):
            raise TransientError(f"Could not load the credentials: {type(error).__name__}.") from None
        raise CredentialsError(f"There are no usable credentials: {_reason(source)}.", remedy=_WHERE_FROM) from None


def _reason(source: str) -> str:
    if source:
        return f"the connection's {source} contains no credentials of a type that google-auth supports"
    return "this machine has no Application Default Credentials, or they cannot be used"


def _load(source: str, settings: ConnectionSettings) -> tuple[Any, str]:
    if source == "key_path":
        return _from_info(_file_content(settings.key_path, source), settings, source, is_in_connection=False)
    if source == "keyfile_dict":
        return _from_info(_content(settings.keyfile, source), settings, source)
    if source == "credential_config_file":
        is_path = isinstance(settings.config, str) and not settings.config.lstrip().startswith("{")
        info = (_file_content if is_path else _content)(settings.config, source)
        return _from_info(info, settings, source, is_in_connection=not is_path)
    if source == "key_secret_name":
        return _from_info(_secret(settings), settings, source)
    return application_default(settings.scopes)


#: The remedy for a value that is not a JSON object, by whether a file contains it. The remedy for a file does not say
#: "paste", since the field for its path is visible.
_NO_OBJECT = {
    False: "Paste the whole key file.",
    True: "The file is not a key file. Give the path of a key file, unchanged as downloaded from Google.",
}


def _content(value: Any, field_name: str, *, is_file: bool = False) -> Any:
    """Return a key as an object, from its JSON or as it is.

    :raises CredentialsError: If the value is neither. The error does not show it.
    """
    if isinstance(value, str) and value.strip() in _PLACEHOLDERS:
        raise CredentialsError(
            f"The connection's {field_name} contains only the form's placeholder for the stored key.",
            remedy="Save the connection, then test it; or paste the key again.",
        )
    try:
        content = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, Mapping):
        return content
    raise CredentialsError(f"The connection's {field_name} is not a JSON object.", remedy=_NO_OBJECT[is_file])


def _file_content(path: str, field_name: str) -> Any:
    """Read a key file's JSON.

    :raises CredentialsError: If the file is missing, unreadable, too large or no key. The error does not show the path,
        since it may be a key.
    """
    if path.lstrip().startswith("{"):
        raise CredentialsError(
            f"The connection's {field_name} contains a key, but has to be the path of a file.",
            remedy="Move the key to keyfile_dict.",
        )
    try:
        file = Path(path)
        if not file.is_file() or file.stat().st_size > _LARGEST_KEY_FILE:
            raise ValueError  # noqa: TRY301
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise CredentialsError(
            f"The connection's {field_name} names no key file that this machine can read.",
            remedy="Check that the path leads to a JSON key file on this machine, and that Airflow's user may read it.",
        ) from None
    return _content(text, field_name, is_file=True)


def _from_info(
    info: Any, settings: ConnectionSettings, source: str, *, is_in_connection: bool = True
) -> tuple[Any, str]:
    """Make credentials from the content of a key file or of a workload identity federation's configuration."""
    import google.auth
    from google.auth.credentials import with_scopes_if_required
    from google.oauth2 import service_account

    check_info(info, settings.trust, is_in_connection=is_in_connection, what=source)
    if isinstance(key := info.get("private_key"), str):
        info = {**info, "private_key": key.replace("\\n", "\n")}  # Some ways of copying a key escape its line breaks.
    if info.get("type") == "service_account":
        credentials = service_account.Credentials.from_service_account_info(info, scopes=settings.scopes)
        return credentials, info.get("project_id", "")
    # With scopes, this function would fetch a token at once, to read the project of a federation's pool.
    credentials, project = google.auth.load_credentials_from_dict(dict(info))
    return with_scopes_if_required(credentials, settings.scopes), project or ""


def _secret(settings: ConnectionSettings) -> Any:
    """Fetch the newest version of a secret from Google Secret Manager.

    Follows https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
    """
    credentials, project = application_default(SCOPES[1:])
    project = check_project(settings.key_secret_project or project or settings.project)
    secret = settings.key_secret_name
    if not _SECRET_NAME.fullmatch(secret):
        raise CredentialsError(
            "The connection's key_secret_name is not the name of a secret.",
            remedy="Give its name alone: letters, digits, '-' and '_'.",
        )
    url = f"https://secretmanager.googleapis.com/v1/projects/{project}/secrets/{secret}/versions/latest:access"
    with authorized_session(credentials, "https://secretmanager.googleapis.com") as session:
        answer = session.get(url, timeout=30, allow_redirects=False)
    if answer.status_code == 429 or answer.status_code >= 500:
        raise TransientError(
            f"Google Secret Manager returned HTTP {answer.status_code}.", http_status=answer.status_code
        )
    if answer.status_code != 200:
        raise CredentialsError(
            f"Google Secret Manager refused the connection's secret: HTTP {answer.status_code}.",
            subject=f"projects/{project}",
            remedy="Grant the Application Default Credentials roles/secretmanager.secretAccessor on it.",
        )
    return _content(base64.b64decode(answer.json()["payload"]["data"]).decode(), "key_secret_name")


def _impersonate(source: Any, settings: ConnectionSettings) -> Any:
    from google.auth import impersonated_credentials

    *delegates, target = settings.impersonation_chain
    return impersonated_credentials.Credentials(
        source_credentials=source, target_principal=target, target_scopes=list(settings.scopes), delegates=delegates
    )
