"""The settings in a connection: the credentials and the endpoint. This module only reads them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.auth.trust import Trust
from airflow_ee_provider.earth_engine.model.errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_HOST = "https://earthengine.googleapis.com"

#: Either scope is enough; without any, google-auth cannot refresh a token.
SCOPES = (
    "https://www.googleapis.com/auth/earthengine",
    "https://www.googleapis.com/auth/cloud-platform",
)

#: The values of a checked box in JSON, in Airflow 2.11's form, and as users write it.
_YES = ("true", "1", "y", "yes", "on")

#: Extras of Google's provider that this provider does not support.
_UNSUPPORTED = ("idp_issuer_url", "client_id", "client_secret", "idp_extra_parameters", "idp_extra_params")


@dataclass(frozen=True)
class ConnectionSettings:
    """The fields of a connection; the names are those of Airflow's ``google_cloud_platform`` connection.

    :param project: The Cloud project that runs the operations; by default that of the credentials.
    :param quota_project: The project that is charged for the requests, as ``X-Goog-User-Project``.
    :param host: The endpoint, ``https://…``; plain http only to this machine.
    :param api_version: ``v1``, ``v1beta`` or ``v1alpha``.
    :param key_path: The path of a file with credentials of any type that google-auth supports.
    :param keyfile: The content of such a file; it is checked when it is used.
    :param config: The path of such a file, or its content.
    :param key_secret_name: The name of a secret in Google Secret Manager with such content.
    :param key_secret_project: The secret's project; by default that of the Application Default Credentials.
    :param impersonation_chain: Service accounts, the last of which calls Earth Engine.
    :param is_anonymous: Whether to call without credentials; only for an emulator on this machine.
    :param trust: What the deployment allows in addition to Google; a connection cannot set it.
    """

    project: str = ""
    quota_project: str = ""
    host: str = DEFAULT_HOST
    api_version: str = "v1"
    key_path: str = field(default="", repr=False)
    keyfile: Any = field(default=None, repr=False)
    config: Any = field(default=None, repr=False)
    key_secret_name: str = field(default="", repr=False)
    key_secret_project: str = field(default="", repr=False)
    scopes: Sequence[str] = SCOPES
    impersonation_chain: Sequence[str] = ()
    is_anonymous: bool = False
    trust: Trust = field(default_factory=Trust)

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any], host: str | None = None) -> ConnectionSettings:
        """Read a connection's extras, with or without the prefix ``extra__{conn_type}__`` of old connections.

        :raises CredentialsError: If the connection has an extra that is not supported.
        """
        old = {key.rsplit("__", 1)[-1]: value for key, value in extra.items() if key.startswith("extra__")}
        known = {key: value for key, value in {**old, **extra}.items() if value not in (None, "", "{}", {})}
        if unsupported := [name for name in _UNSUPPORTED if name in known]:
            raise CredentialsError(
                f"The connection's {', '.join(unsupported)} cannot be used for Earth Engine: an external identity "
                "provider is only supported through a workload identity federation file.",
                remedy="Give such a file as key_path or credential_config_file.",
            )
        return cls(
            project=str(known.get("project") or known.get("project_id", "")),
            quota_project=str(known.get("quota_project_id") or known.get("quota_project", "")),
            host=host or str(known.get("host", DEFAULT_HOST)),
            api_version=str(known.get("api_version", "v1")),
            key_path=str(known.get("key_path", "")),
            keyfile=known.get("keyfile_dict"),
            config=known.get("credential_config_file"),
            key_secret_name=str(known.get("key_secret_name", "")),
            key_secret_project=str(known.get("key_secret_project_id", "")),
            scopes=comma_separated(known.get("scope")) or SCOPES,
            impersonation_chain=comma_separated(known.get("impersonation_chain")),
            is_anonymous=str(known.get("is_anonymous", "")).strip().lower() in _YES,
        )


def comma_separated(value: Any) -> tuple[str, ...]:
    """Return the names in a list, or in a text that separates them by commas."""
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(str(part).strip() for part in parts if str(part).strip())


def with_overrides(
    settings: ConnectionSettings, project_id: str | None, impersonation_chain: Any
) -> ConnectionSettings:
    """Return the settings with a task's parameters in place of its connection's values."""
    return replace(
        settings,
        project=project_id or settings.project,
        impersonation_chain=comma_separated(impersonation_chain) or settings.impersonation_chain,
    )
