"""What both hooks share: the Airflow connection, and the account that it opens."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, conf

from airflow_ee_provider.base import parameters
from airflow_ee_provider.earth_engine.auth.credentials import Account, open_account
from airflow_ee_provider.earth_engine.auth.settings import ConnectionSettings, comma_separated, with_overrides
from airflow_ee_provider.earth_engine.auth.trust import Trust
from airflow_ee_provider.earth_engine.model.errors import ConnectionMissingError, CredentialsError
from airflow_ee_provider.hooks import connection_form

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The section of Airflow's configuration; see `get_provider_info`.
CONFIG_SECTION = "earth_engine"

#: Types of connections whose fields are understood: ours, and that of Google's provider.
_TYPES = (connection_form.CONNECTION_TYPE, "google_cloud_platform")


class ConnectionHook(BaseHook):
    """A hook that calls as the account that its connection opens."""

    conn_name_attr = "earth_engine_conn_id"
    default_conn_name = "earth_engine_default"
    conn_type = connection_form.CONNECTION_TYPE
    hook_name = connection_form.HOOK_NAME

    def __init__(
        self,
        earth_engine_conn_id: str | None = default_conn_name,
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain
        parameters.check(self, parameters.CONNECTION)

    @cached_property
    def account(self) -> Account:
        """Who calls Earth Engine, and where; read from the connection once, so that a kill need not read it again.

        :raises CredentialsError: if there are no usable credentials.
        """
        return self._open()

    def _open(self) -> Account:
        return open_account(with_overrides(self._settings(), self.project_id, self.impersonation_chain))

    def _settings(self) -> ConnectionSettings:
        if not self.earth_engine_conn_id:
            return ConnectionSettings(trust=_trust())
        try:
            connection = self.get_connection(self.earth_engine_conn_id)
        except AirflowNotFoundException:
            # Airflow raises it as well where a secrets backend gave no answer: no other account may be used then.
            raise ConnectionMissingError(
                f"The connection {self.earth_engine_conn_id!r} is not defined, or could not be read.",
                remedy="Add a connection of the type Google Earth Engine. To use the machine's Application Default "
                "Credentials, leave its fields empty, or set earth_engine_conn_id=None.",
            ) from None
        # Without it, an empty one of another type would stand for the machine's own account.
        if connection.conn_type and connection.conn_type not in _TYPES:
            raise CredentialsError(
                f"The connection {self.earth_engine_conn_id!r} is of the type {connection.conn_type!r}.",
                remedy=f"Give one of the type {' or '.join(_TYPES)}.",
            )
        return replace(ConnectionSettings.from_extra(connection.extra_dejson, _host(connection)), trust=_trust())


def _trust() -> Trust:
    """Read what the deployment's own configuration allows."""
    return Trust(
        hosts=comma_separated(conf.get(CONFIG_SECTION, "allowed_hosts", fallback="")),
        external_accounts=conf.getboolean(CONFIG_SECTION, "allow_external_accounts", fallback=False),
    )


def _host(connection: Any) -> str | None:
    if connection.conn_type == connection_form.CONNECTION_TYPE and connection.host:
        scheme = "" if "://" in connection.host or not connection.schema else f"{connection.schema}://"
        return f"{scheme}{connection.host}" + (f":{connection.port}" if connection.port else "")
    return None
