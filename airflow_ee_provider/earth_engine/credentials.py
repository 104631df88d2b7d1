"""Who calls Earth Engine, and where: settings, and what google-auth makes of them."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_ee_provider.earth_engine.errors import CredentialsError, EarthEngineError, InvalidRequestError
from airflow_ee_provider.earth_engine.operations import OperationName, check_project

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

DEFAULT_HOST = "https://earthengine.googleapis.com"
API_VERSIONS = ("v1", "v1beta", "v1alpha")
#: Either suffices; google-auth's credentials cannot refresh where none is given.
SCOPES = (
    "https://www.googleapis.com/auth/earthengine",
    "https://www.googleapis.com/auth/cloud-platform",
)

_WHERE_FROM = "Configure Application Default Credentials, or set key_path, keyfile_dict or key_secret_name."


@dataclass(frozen=True)
class Settings:
    """What a connection says; the names are those of Airflow's ``google_cloud_platform`` connection.

    :param project: the Cloud project that runs the operations; by default that of the credentials.
    :param quota_project: the project that is charged for the requests, as ``X-Goog-User-Project``.
    :param host: the endpoint, ``https://…``; plain http only to this machine.
    :param api_version: ``v1``, ``v1beta`` or ``v1alpha``.
    :param key_path: a file with credentials of any type that google-auth knows; not shown in logs.
    :param keyfile: the content of such a file.
    :param key_secret_name: the name of a secret in Google Secret Manager that holds such content.
    :param key_secret_project: the secret's project; by default that of the Application Default Credentials.
    :param impersonation_chain: service accounts, the last of which calls Earth Engine.
    :param is_anonymous: call without credentials; only for an emulator on this machine.
    """

    project: str = ""
    quota_project: str = ""
    host: str = DEFAULT_HOST
    api_version: str = "v1"
    key_path: str = ""
    keyfile: Mapping[str, Any] | None = field(default=None, repr=False)
    key_secret_name: str = ""
    key_secret_project: str = ""
    scopes: Sequence[str] = SCOPES
    impersonation_chain: Sequence[str] = ()
    is_anonymous: bool = False

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any], host: str | None = None) -> Settings:
        """Read a connection's extras, with or without the prefix ``extra__{conn_type}__`` of old connections.

        :raises CredentialsError: if one of them cannot be understood.
        """
        known = {key.rsplit("__", 1)[-1]: value for key, value in extra.items() if value not in (None, "")}
        return cls(
            project=str(known.get("project", "")),
            quota_project=str(known.get("quota_project", "")),
            host=host or str(known.get("host", DEFAULT_HOST)),
            api_version=str(known.get("api_version", "v1")),
            key_path=str(known.get("key_path") or known.get("credential_config_file", "")),
            keyfile=_keyfile(known.get("keyfile_dict")),
            key_secret_name=str(known.get("key_secret_name", "")),
            key_secret_project=str(known.get("key_secret_project_id", "")),
            scopes=split(known.get("scope")) or SCOPES,
            impersonation_chain=split(known.get("impersonation_chain")),
            is_anonymous=str(known.get("is_anonymous", "")).lower() in ("true", "1"),
        )


@dataclass(frozen=True)
class Account:
    """Who calls Earth Engine, and where: what a transport needs to send anything."""

    base_url: str
    credentials: Credentials
    default_project: str = ""

    @property
    def endpoint(self) -> str:
        """Where the API is, without its version: ``https://earthengine.googleapis.com``."""
        return self.base_url.rpartition("/")[0]

    @property
    def project(self) -> str:
        """The Cloud project that runs the operations.

        :raises CredentialsError: if neither the connection nor the credentials name one.
        """
        if not self.default_project:
            raise CredentialsError(
                "There is no Cloud project to ask Earth Engine about.",
                remedy="Set the connection's project, or pass project_id.",
            )
        return self.default_project

    def name(self, text: str | OperationName) -> OperationName:
        """Parse an operation's name; a bare id belongs to the account's project."""
        return OperationName.parse(text, self.default_project)

    def names(self, texts: Any) -> list[OperationName]:
        """Parse one name, several, or none."""
        return OperationName.parse_all(texts, self.default_project)


def open_account(settings: Settings) -> Account:
    """Load the credentials that the settings name.

    :raises CredentialsError: if there are none, or they cannot be used.
    :raises InvalidRequestError: if the endpoint is not one to send a token to.
    """
    base_url = f"{_endpoint(settings)}/{settings.api_version}"
    credentials, project = _credentials(settings)
    if settings.impersonation_chain:
        credentials = _impersonate(credentials, settings)
    if settings.quota_project and hasattr(credentials, "with_quota_project"):
        credentials = credentials.with_quota_project(settings.quota_project)
    project = settings.project or project
    return Account(base_url, credentials, check_project(project) if project else "")


def split(value: Any) -> tuple[str, ...]:
    """Read several names from a list, or from a text with commas."""
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _endpoint(settings: Settings) -> str:
    """Return the endpoint's origin, to which alone the token is sent."""
    text = settings.host if "://" in settings.host else f"https://{settings.host}"
    url = urlsplit(text)
    local = url.hostname == "localhost" or _is_loopback(url.hostname or "")
    plain = url.username is None and url.path in ("", "/") and not url.query and not url.fragment
    if not url.hostname or not plain or not (url.scheme == "https" or (url.scheme == "http" and local)):
        raise InvalidRequestError(
            f"The connection's host {settings.host!r} is not an endpoint for Earth Engine.",
            remedy=f"Leave it empty for {DEFAULT_HOST}; plain http is only for an emulator on this machine.",
        )
    if settings.api_version not in API_VERSIONS:
        raise InvalidRequestError(f"API version {settings.api_version!r} is not one of {', '.join(API_VERSIONS)}.")
    if settings.is_anonymous and not local:
        raise CredentialsError("Anonymous calls are only for an emulator on this machine.", remedy=_WHERE_FROM)
    return f"{url.scheme}://{url.netloc}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _credentials(settings: Settings) -> tuple[Any, str]:
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import GoogleAuthError

    sources = (settings.is_anonymous, settings.key_path, settings.keyfile, settings.key_secret_name)
    if sum(map(bool, sources)) > 1:
        raise CredentialsError(
            "The connection names more than one source of credentials.",
            remedy="Keep one of key_path, keyfile_dict, key_secret_name and is_anonymous.",
        )
    if settings.is_anonymous:
        return AnonymousCredentials(), ""
    try:
        if settings.key_path:
            return _from_info(json.loads(Path(settings.key_path).read_text(encoding="utf-8")), settings)
        if settings.keyfile:
            return _from_info(settings.keyfile, settings)
        if settings.key_secret_name:
            return _from_info(_secret(settings), settings)
        return _application_default(settings.scopes)
    except (GoogleAuthError, OSError, ValueError) as error:
        if isinstance(error, EarthEngineError):
            raise
        # Their texts can quote the key file, so only what google-auth itself says is kept.
        reason = str(error) if isinstance(error, (GoogleAuthError, OSError)) else "they are not valid JSON of a key"
        raise CredentialsError(f"There are no usable credentials: {reason}.", remedy=_WHERE_FROM) from None


def _application_default(scopes: Sequence[str]) -> tuple[Any, str]:
    import google.auth

    credentials, project = google.auth.default(scopes=scopes)
    return credentials, project or ""


def _from_info(info: Any, settings: Settings) -> tuple[Any, str]:
    """Make credentials from the content of a key file or of a workload identity federation's configuration."""
    import google.auth
    from google.auth.credentials import with_scopes_if_required
    from google.oauth2 import service_account

    if not isinstance(info, Mapping):
        raise ValueError  # noqa: TRY004 (it is a file's content that is wrong)
    if info.get("type") == "service_account":
        credentials = service_account.Credentials.from_service_account_info(info, scopes=settings.scopes)
        return credentials, info.get("project_id", "")
    with warnings.catch_warnings():
        # google-auth warns of configurations from strangers; a connection's is the deployment's own.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Given scopes, it would fetch a token at once, to ask for the project of a federation's pool.
        credentials, project = google.auth.load_credentials_from_dict(dict(info))
    return with_scopes_if_required(credentials, settings.scopes), project or ""


def _secret(settings: Settings) -> Any:
    """Fetch the newest version of a secret from Google Secret Manager.

    Follows https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
    """
    from google.auth.transport.requests import AuthorizedSession

    credentials, project = _application_default(SCOPES[1:])
    project = check_project(settings.key_secret_project or project or settings.project)
    secret = OperationName.parse(settings.key_secret_name, project).id
    url = f"https://secretmanager.googleapis.com/v1/projects/{project}/secrets/{secret}/versions/latest:access"
    with AuthorizedSession(credentials) as session:
        answer = session.get(url, timeout=30, allow_redirects=False)
    if answer.status_code != 200:
        raise CredentialsError(
            f"The secret {settings.key_secret_name!r} cannot be read: HTTP {answer.status_code}.",
            subject=f"projects/{project}",
            remedy="Grant the Application Default Credentials roles/secretmanager.secretAccessor on it.",
        )
    return json.loads(base64.b64decode(answer.json()["payload"]["data"]))


def _impersonate(source: Any, settings: Settings) -> Any:
    from google.auth import impersonated_credentials

    *delegates, target = settings.impersonation_chain
    return impersonated_credentials.Credentials(
        source_credentials=source, target_principal=target, target_scopes=list(settings.scopes), delegates=delegates
    )


def _keyfile(value: Any) -> Mapping[str, Any] | None:
    try:
        keyfile = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        keyfile = "not JSON"
    if keyfile is None or isinstance(keyfile, Mapping):
        return keyfile
    raise CredentialsError("The connection's keyfile_dict is not a JSON object.", remedy="Paste the whole key file.")


def override(settings: Settings, project_id: str | None, impersonation_chain: Any) -> Settings:
    """Return the settings with what a task says in place of what its connection says."""
    return replace(
        settings,
        project=project_id or settings.project,
        impersonation_chain=split(impersonation_chain) or settings.impersonation_chain,
    )
