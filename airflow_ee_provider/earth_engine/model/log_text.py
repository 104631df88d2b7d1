"""Log text about operations: a line for each if they are few; otherwise numbers and examples."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_ee_provider.earth_engine.model.operations import Operation

#: Up to this number, each operation has its own line.
FEW = 10

#: How many operations of a longer list are shown: the first ones.
EXAMPLES = 3


def is_short_list(number: int) -> bool:
    """Whether each operation has its own line if there are ``number`` operations."""
    return number <= FEW


def abbreviated(names: Iterable[object]) -> str:
    """Return names as text: all names if they are few; otherwise the first ones and the number of the others.

    >>> abbreviated(f"projects/p/operations/{n}" for n in range(3000))
    'projects/p/operations/0, projects/p/operations/1, projects/p/operations/2 and 2,997 more'
    """
    texts = [str(name) for name in names]
    if is_short_list(len(texts)):
        return ", ".join(texts)
    return f"{', '.join(texts[:EXAMPLES])} and {len(texts) - EXAMPLES:,} more"


def truncated_lines(lines: Sequence[str], most: int = 50) -> list[str]:
    """Return all lines if they are few; otherwise the first and the last ones, and the number of those in between."""
    if len(lines) <= most:
        return list(lines)
    half = most // 2
    return [*lines[:half], f"… {len(lines) - 2 * half:,} more …", *lines[-half:]]


def count_by(words: Iterable[str]) -> str:
    """Return how often each word occurs, the most frequent first.

    >>> count_by(["RUNNING", "SUCCEEDED", "RUNNING"])
    '2 RUNNING, 1 SUCCEEDED'
    """
    return ", ".join(f"{number:,} {word}" for word, number in Counter(words).most_common())


def summary(operations: Sequence[Operation], total: int) -> str:
    """Summarize operations in one line: how many are in each state, their EECU use, and which has run longest.

    :param operations: The operations that have been read.
    :param total: The number of all operations.
    """
    unread = ["not read yet"] * (total - len(operations))
    parts = [f"{total:,} operations: " + count_by([*(operation.state.value for operation in operations), *unread])]
    if used := eecu_seconds(operations):
        parts.append(f"{used:,.0f} EECU-seconds")
    if running := [o for o in operations if o.state.value == "RUNNING" and o.start_time]:
        oldest = min(running, key=lambda operation: str(operation.start_time))
        parts.append(f"running for longest: {oldest.label}, since {oldest.start_time:%Y-%m-%d %H:%M} UTC")
    return "; ".join(parts)


def eecu_seconds(operations: Iterable[Operation]) -> float:
    """Return the EECU-seconds that operations have used together."""
    return sum(operation.batch_eecu_usage_seconds or 0.0 for operation in operations)


def time_left(ended: int, unfinished: int, waited: float) -> str:
    """Return an estimate of the time until the unfinished operations end, at the pace so far.

    :param ended: How many operations have ended while the task waited.
    :param waited: How long the task has waited, in seconds.
    """
    minutes = round(waited * unfinished / ended / 60)
    return f"about {minutes // 60} h {minutes % 60:02} min left at this pace"
