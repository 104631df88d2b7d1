"""Which operations of a project are stale: the criteria, and the reason for each operation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.errors import FailedPreconditionError, InvalidRequestError, TransientError
from airflow_ee_provider.earth_engine.protocol.api_methods import list_operations
from airflow_ee_provider.earth_engine.protocol.effects import Flow, LogMessage, WallClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.model.operations import Operation

#: The times from which an operation's age can be counted.
AGE_FIELDS = ("create_time", "start_time")


#: By how much Earth Engine's clock and this machine's may differ. Beyond that, one of them is wrong, and an operation
#: that looks old may be new.
CLOCKS_DIFFER = timedelta(days=2)

#: How many characters of a description are matched: Earth Engine allows 100, and a pattern can take very long to match
#: a long text.
LONGEST_DESCRIPTION = 256

#: Descriptions that have little in common: a pattern that matches all of them selects everything.
UNLIKE = ("myExportImageTask", "2024-01-31 / \u00c4gypten 7", "~#~#~#~#~#~#")

#: The highest priority that an operation can have; Earth Engine runs operations of a higher priority first.
HIGHEST_PRIORITY = 9999

#: The states in which an operation can be cancelled.
ACTIVE_STATES = ("PENDING", "RUNNING", "CANCELLING")


@dataclass(frozen=True)
class StaleCriteria:
    """The criteria for stale operations. A stale operation meets all criteria that are given.

    :param older_than: The operation was created or started longer ago than this.
    :param age_since: ``create_time`` or ``start_time``.
    :param description: A glob that the whole description matches, case-sensitively: ``ndvi-*``.
    :param description_regex: A regular expression that is found in the description.
    :param types: The operation's types, such as ``EXPORT_IMAGE``.
    :param max_priority: The operation has this priority or a lower one.
    :param min_eecu_seconds: The operation has used this number of EECU-seconds or more.
    :param states: The states to select; they must be combined with another criterion.
    :param keep: Operations that are never stale.
    :param among: The only operations that can be stale, each with a reason; None for all.
    :param select_all: Whether the criteria may select every operation of the project.
    :raises InvalidRequestError: If a criterion is invalid, or if the criteria select every operation and ``select_all``
        is not set: a list shows the operations of every user of the project, and names no owner.
    """

    older_than: timedelta | None = None
    age_since: str = "create_time"
    description: str = ""
    description_regex: str = ""
    types: tuple[str, ...] = ()
    max_priority: int | None = None
    min_eecu_seconds: float | None = None
    states: tuple[str, ...] = ("PENDING", "RUNNING")
    keep: frozenset[OperationName] = frozenset()
    among: Mapping[OperationName, str] | None = None
    select_all: bool = False

    def __post_init__(self) -> None:
        if self.age_since not in AGE_FIELDS:
            raise InvalidRequestError(f"age_since is {self.age_since!r} and has to be one of {', '.join(AGE_FIELDS)}.")
        if unknown := set(self.states) - set(ACTIVE_STATES):
            raise InvalidRequestError(f"states has {sorted(unknown)}, and can have {', '.join(ACTIVE_STATES)}.")
        try:
            re.compile(self.description_regex)
        except (re.error, OverflowError, RecursionError) as error:
            raise InvalidRequestError(
                f"description_regex {self.description_regex!r} is not a regular expression: {error}."
            ) from None
        if not (self.select_all or any(self._restricting())):
            raise InvalidRequestError(
                "These criteria select every operation of every user of the project.",
                remedy="Give orphaned, older_than, description, description_regex, types, max_priority or "
                "min_eecu_seconds with a value that selects some of them, or set select_all=True.",
            )

    def _restricting(self) -> Iterable[bool]:
        """Yield for each criterion whether it can exclude an operation."""
        yield self.among is not None
        yield bool(self.types)
        yield bool(self.description) and not all(fnmatchcase(text, self.description) for text in UNLIKE)
        yield bool(self.description_regex) and not all(re.search(self.description_regex, text) for text in UNLIKE)
        yield self.older_than is not None and self.older_than > timedelta(0)
        yield self.max_priority is not None and self.max_priority < HIGHEST_PRIORITY
        yield self.min_eecu_seconds is not None and self.min_eecu_seconds > 0

    def reason(self, operation: Operation, now: datetime) -> str:
        """Return why an operation is stale; empty if it is not."""
        if operation.done or operation.state.value not in self.states or operation.name.id in self._kept_ids:
            return ""
        return self.meets(operation, now)

    @cached_property
    def _kept_ids(self) -> frozenset[str]:
        """The ids in ``keep``: a name may have the project's number, where the list has its id."""
        return frozenset(name.id for name in self.keep)

    def meets(self, operation: Operation, now: datetime) -> str:
        """Return why an operation, active or not, meets every criterion; empty if it does not."""
        reasons = [reason for reason in self._reasons(operation, now) if reason is not None]
        return ", ".join(reasons or ["select_all is set"]) if all(reasons) else ""

    def _reasons(self, operation: Operation, now: datetime) -> Iterable[str | None]:
        """Yield the reason of each criterion: an empty text if it is not met, None if it is not given."""
        yield self.among.get(operation.name, "") if self.among is not None else None
        yield self._age(operation, now) if self.older_than is not None else None
        described = operation.description[:LONGEST_DESCRIPTION]
        if self.description:
            yield f"is called {described!r}" if fnmatchcase(described, self.description) else ""
        if self.description_regex:
            yield f"is called {described!r}" if re.search(self.description_regex, described) else ""
        if self.types:
            yield f"is an {operation.type}" if operation.type in self.types else ""
        if self.max_priority is not None:
            priority = operation.priority
            yield f"has priority {priority}" if priority is not None and priority <= self.max_priority else ""
        if self.min_eecu_seconds is not None:
            used = operation.batch_eecu_usage_seconds
            yield f"has used {used:g} EECU-seconds" if used is not None and used >= self.min_eecu_seconds else ""

    def _age(self, operation: Operation, now: datetime) -> str:
        since: datetime | None = getattr(operation, self.age_since)
        if since is None or self.older_than is None or now - since <= self.older_than:
            return ""
        age = timedelta(seconds=int((now - since).total_seconds()))
        return f"was {self.age_since.removesuffix('_time')}{'d' if self.age_since == 'create_time' else 'ed'} {age} ago"


@dataclass(frozen=True)
class StaleOperation:
    """An operation, and why it is stale."""

    operation: Operation
    reason: str


def list_stale_operations(
    project: str, criteria: StaleCriteria, limit: int | None = None
) -> Flow[list[StaleOperation]]:
    """List a project's operations and return the stale ones, the oldest first.

    Ages are counted by Earth Engine's clock, as the operations' times are. By the clock of a worker that is ahead, new
    operations would look old.

    :param limit: The most operations that are returned; None for all.
    :raises TransientError: If ``older_than`` is given and Earth Engine's response has no date.
    :raises FailedPreconditionError: If ``older_than`` is given and Earth Engine's clock and this machine's differ by
        more than two days.
    """
    listing = yield from list_operations(project)
    now = datetime.fromtimestamp((yield WallClock()), timezone.utc)
    if criteria.older_than is not None:
        now = _time_to_count_from(listing.read_at, now, f"projects/{project}")
    stale = [StaleOperation(operation, criteria.reason(operation, now)) for operation in listing.operations]
    stale = sorted((one for one in stale if one.reason), key=_age_order)[:limit]
    yield LogMessage(f"{len(stale)} of {len(listing.operations)} operations are stale.")
    return stale


def _time_to_count_from(read_at: datetime | None, here: datetime, subject: str) -> datetime:
    """Return Earth Engine's time, if ages can be counted from it."""
    if read_at is None:
        raise TransientError("Ages cannot be computed: Earth Engine's answer has no date.", subject=subject)
    if abs(read_at - here) > CLOCKS_DIFFER:
        raise FailedPreconditionError(
            f"Ages cannot be computed: Earth Engine's answer is from {read_at:%Y-%m-%d %H:%M}, but this machine's "
            f"clock shows {here:%Y-%m-%d %H:%M}.",
            subject=subject,
            remedy="Correct the clock of this machine, or of the proxy.",
        )
    return read_at


def _age_order(stale: StaleOperation) -> tuple[datetime, OperationName]:
    operation = stale.operation
    return operation.create_time or datetime.max.replace(tzinfo=timezone.utc), operation.name
