"""The official client, ``earthengine-api``: lent an account, and asked what its export tasks stand for.

Follows https://developers.google.com/earth-engine/apidocs/ee-initialize and ``ee.batch.Task``.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.effects import Request, Response
from airflow_ee_provider.earth_engine.errors import EarthEngineError, InvalidRequestError
from airflow_ee_provider.earth_engine.operations import OperationName
from airflow_ee_provider.earth_engine.protocol import decode
from airflow_ee_provider.earth_engine.starting import Export

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.earth_engine.credentials import Account

#: ``ee.batch.Task.task_type`` -> the kind of export that the API knows.
KINDS = {
    "EXPORT_IMAGE": "image",
    "EXPORT_FEATURES": "table",
    "EXPORT_VIDEO": "video",
    "EXPORT_TILES": "map",
    "EXPORT_CLASSIFIER": "classifier",
}

#: Seconds that each step of the client's initialisation may take: by default it waits for ever.
INITIALIZE_TIMEOUT = 30.0

#: The same for any other request: Earth Engine itself ends an interactive one after five minutes.
REQUEST_TIMEOUT = 330.0


@contextmanager
def initialized_client(account: Account) -> Iterator[None]:
    """Let ``ee`` call Earth Engine as the account does: its credentials, project and endpoint; for the block's time.

    :raises EarthEngineError: for what Earth Engine answers to the client, in the block, too.
    """
    try:
        import ee
    except ImportError:
        raise InvalidRequestError(
            "The package earthengine-api is not installed.", remedy="pip install 'airflow-ee-provider[earthengine]'."
        ) from None
    subject = f"projects/{account.project}"
    with _errors(subject):
        before = socket.getdefaulttimeout()
        # It also fetches a list of deprecations from another host. (Its own setDeadline fetches everything again.)
        socket.setdefaulttimeout(INITIALIZE_TIMEOUT)
        try:
            ee.Initialize(credentials=account.credentials, url=account.endpoint, project=account.project)
            socket.setdefaulttimeout(REQUEST_TIMEOUT)
            yield
        finally:
            socket.setdefaulttimeout(before)
            ee.Reset()


def exports_of(returned: Any) -> list[Export | OperationName]:
    """Read what a function has returned: one ``ee.batch.Task`` or several; started ones are their operations.

    :raises InvalidRequestError: for anything else.
    """
    if returned is None:
        return []
    if isinstance(returned, (list, tuple)):
        return [export for item in returned for export in exports_of(item)]
    if isinstance(returned, (str, OperationName)):
        return list(OperationName.parse_all(returned))
    if not (hasattr(returned, "task_type") and hasattr(returned, "config")):
        raise InvalidRequestError(
            f"The function returned {returned!r}.",
            remedy="Return one ee.batch.Task or several, for example what ee.batch.Export.image.toDrive(…) gives.",
        )
    return [OperationName.parse(returned.name) if returned.name else _export_of(returned)]


def _export_of(task: Any) -> Export:
    """Return what ``task.start()`` would ask for, but for its ``requestId``."""
    import ee

    body = {"workloadTag": task.workload_tag, **(task.config or {})}
    if not body["workloadTag"]:
        del body["workloadTag"]
    if isinstance(body.get("expression"), ee.Encodable):
        body["expression"] = ee.serializer.encode(body["expression"], for_cloud_api=True)
    kind = str(getattr(task.task_type, "value", task.task_type))
    return Export(KINDS.get(kind, kind), body)


@contextmanager
def _errors(subject: str) -> Iterator[None]:
    """Give the client's errors, which know no status, the classes and remedies of ours; leave others as they are."""
    import ee

    try:
        yield
    except ee.EEException as error:
        http_error: Any = error.__context__  # googleapiclient's
        if not hasattr(http_error, "resp"):
            raise
        answer = Response(int(http_error.resp.status), http_error.content)
        decoded = decode(Request("POST", subject, subject), answer)
        raise (decoded if isinstance(decoded, EarthEngineError) else error) from None
