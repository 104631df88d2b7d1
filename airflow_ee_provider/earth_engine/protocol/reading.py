"""Read many operations with the fewest requests: one by one, or in the pages of a list.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/list
"""

from __future__ import annotations

from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, TransientError
from airflow_ee_provider.earth_engine.protocol.api_methods import PAGE_SIZE, find_operations, get_operation
from airflow_ee_provider.earth_engine.protocol.effects import Flow, SideBySide
from airflow_ee_provider.earth_engine.protocol.retries import Backoff, attempt, within

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.model.operations import Operation

#: How many gets cost as much as a page of a list. A page has 500 operations, of which few may be needed.
GETS_PER_LIST_PAGE = 20

#: After a list has failed: how many operations are read by name, and how often each is requested.
PROBES, ONCE = 2, Backoff(attempts=1)

ReadResults = dict["OperationName", "Operation | EarthEngineError"]


def list_is_cheaper(operations: int) -> bool:
    """Whether this number of a project's operations is cheaper to read in a list than one by one."""
    return operations > GETS_PER_LIST_PAGE * ceil(operations / PAGE_SIZE)


def read_list(project: str, names: Collection[OperationName], until: float | None = None) -> Flow[ReadResults]:
    """Read operations in the pages of a list; names that are missing in the result must be read one by one.

    It stops once the pages cost more than single gets would: a project can have many thousands of newer operations.

    :param until: see `read_operations`.
    """
    most_pages = len(names) // GETS_PER_LIST_PAGE
    listed = yield from attempt(within(find_operations(project, names, most_pages), until))
    if isinstance(listed, TransientError):
        return (yield from _read_unlisted(names, listed, until))
    return {} if isinstance(listed, EarthEngineError) else {**listed}  # Without permission to list, gets may work.


def _read_unlisted(names: Collection[OperationName], error: TransientError, until: float | None) -> Flow[ReadResults]:
    """Check with one or two gets whether only the list fails. One invalid operation of any user can be the cause.

    :param error: The list's error; the result for all operations if the gets fail with transient errors, too.
    """
    for name in islice(names, PROBES):
        read = yield from attempt(within(get_operation(name, ONCE), until))
        if not isinstance(read, TransientError):
            return {name: read}
    return dict.fromkeys(names, error)


def read_operations(
    names: Collection[OperationName], until: float | None = None, most_gets: int | None = None
) -> Flow[ReadResults]:
    """Read operations of one project or several. An error is the result for its operation only.

    :param until: The moment of the monotonic clock beyond which no request waits for its retry; None for no limit.
    :param most_gets: The most operations of a project that are read one by one; None for all.
    """
    seen: ReadResults = {}
    for project in sorted({name.project for name in names}):
        mine = [name for name in names if name.project == project]
        if list_is_cheaper(len(mine)):
            seen.update((yield from read_list(project, mine, until)))
        missing = [name for name in mine if name not in seen][:most_gets]
        reads = [attempt(within(get_operation(name), until)) for name in missing]
        seen.update(zip(missing, (yield SideBySide(reads)), strict=True))
    return seen
