"""Store the requests and the value of a task's function in XComs, so that a try calls the function only once.

A task that waits in the triggerer resumes in another process. That process reads the remaining requests and the
function's value from XComs. A deferral does not begin a new try, so Airflow does not delete the XComs.

The requests of a grid of tiles differ only in a region and a name. So they are compressed together, with a window that
is larger than several large requests: 3,000 requests of 5 kB take 0.3 MB, 3,000 of 200 kB 0.4 MB, and 10,000 of 5 kB
0.9 MB.
"""

from __future__ import annotations

import base64
import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_ee_provider.earth_engine.protocol.api_methods import encode
from airflow_ee_provider.earth_engine.protocol.starting import Start
from airflow_ee_provider.tracking.record import RESUMED, STARTED_KEY, item_of, run_started
from airflow_ee_provider.tracking.retry_memory import memory_to_write
from airflow_ee_provider.tracking.store import read_own, recorded_items, remember

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.transport.drivers import Log

#: The XComs' keys: of the function's value, and of the first part of the requests; the second part's ends with ``_2``.
VALUE_KEY, KEPT_KEY = "_earth_engine_value", "_earth_engine_kept"

#: The maximum number of characters of one part, and of all parts. If there are more, the task waits in its worker.
PART, MOST = 500_000, 4_000_000

#: The maximum number of characters stored under one key; a little below `[state_store] max_value_storage_bytes`.
MOST_REMEMBERED = 60_000

#: The version of the format of the stored parts.
VERSION = 1

#: How many bytes are decompressed at a time.
_READ = 1 << 20

#: Compression: fast, and with a window of some megabytes.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 8 << 20}]


@dataclass
class Asked:
    """The requests and the return value of a function.

    An operation is identified by its `Start.key`, or by its name if it was adopted.

    :param value: The function's value, with a `place_of` in place of each operation.
    :param in_value: The operations in these places, by the places' numbers.
    :param operations: All operations that the task waits for.
    :param starts: The starts that the task still has to send, or may send again.
    :param set_aside: Operations of earlier tries that must be started again.
    :param uncounted: Operations that do not count towards ``max_active_operations``.
    """

    value: Any = None
    in_value: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    set_aside: set[str] = field(default_factory=set)
    uncounted: set[str] = field(default_factory=set)
    #: The number of parts in which it is stored for another process; 0 if it is not stored.
    parts: int = 0

    def names(self, started: Mapping[str, str]) -> list[str]:
        """Return the names of the started operations that the task waits for.

        :param started: The latest operation of each `Start.key`.
        """
        named = (one if "/" in one else started.get(one, "") for one in self.operations)
        return list(dict.fromkeys(name for name in named if name))


def check_value(context: Context, value: Any) -> None:
    """Store a function's value before the task waits.

    :raises AirflowFailException: If XCom cannot store it.
    """
    if value is None:  # Airflow 3.0 refuses to store it, and it reads the same if it is not stored.
        return
    try:
        item_of(context, "ti").xcom_push(key=VALUE_KEY, value=value)
    except (TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise AirflowFailException(
            f"The function returned a value that XCom cannot store: {error} The task fails before it waits. Return "
            "numbers, strings, lists, dicts or operations."
        ) from error


def keep(context: Context, asked: Asked, starts: list[Start], log: Log, parameter: str) -> bool:
    """Store the data that another process needs to continue, unless it is too large; return whether it is stored.

    :param starts: The `Asked.starts` that the other process may need.
    :param parameter: The parameter because of which it may send them.
    """
    if asked.parts:
        return True
    text = _packed(_lines(replace(asked, starts=starts)))
    if len(text) > MOST:
        log.warning(
            "The requests that may still be sent because of %s take %.1f MB, compressed; at most %.1f MB are stored. "
            "The task waits in its worker.",
            parameter,
            len(text) / 1e6,
            MOST / 1e6,
        )
        return False
    parts = [text[begin : begin + PART] for begin in range(0, len(text), PART)]
    for number, part in enumerate(parts, 1):
        value = {"version": VERSION, "parts": len(parts), "text": part}
        item_of(context, "ti").xcom_push(key=_part_key(number), value=value)
    asked.parts = len(parts)
    return True


def kept(context: Context, started: Mapping[str, str] = MappingProxyType({})) -> Asked:
    """Return the requests and the value that an earlier process of this try has stored.

    :param started: The started operations, by `Start.key`. Their starts are omitted, except for `Asked.set_aside`.
    :raises AirflowException: If a part is missing; the next try calls the function.
    """
    texts, total = [], 1
    for number in count(1):
        if number > total:
            break
        part = read_own(context, _part_key(number))
        if not isinstance(part, dict) or part.get("version") != VERSION:
            raise AirflowException(
                "The requests that this task stored in its XComs are missing; the next try calls the function again."
            )
        total = int(part["parts"])
        texts.append(str(part["text"]))
    lines = _unpacked("".join(texts))
    of_all = json.loads(next(lines))
    asked = Asked(
        read_own(context, VALUE_KEY),
        of_all["in_value"],
        of_all["operations"],
        set_aside=set(of_all["set_aside"]),
        uncounted=set(of_all["uncounted"]),
        parts=total,
    )
    for line in lines:
        head, body = json.loads(line), next(lines)
        key = head.pop("key")
        if key not in started or started[key] in asked.set_aside:
            asked.starts.append(Start(identity=of_all["identity"], body=_KeptBody(body), **head).known_by(key))
    return asked


class _KeptBody(Mapping[str, Any]):
    """A request's body, parsed only when it is read. As objects, many large bodies would take five times the memory."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def __getitem__(self, name: str) -> Any:
        return _read(self._text)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_read(self._text))

    def __len__(self) -> int:
        return len(_read(self._text))


@lru_cache(maxsize=64)  # More than the requests that are sent at the same time.
def _read(text: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(text)
    return body


def let_go(context: Context, asked: Asked) -> None:
    """Empty the parts that `keep` has stored, before the task succeeds."""
    for number in range(1, asked.parts + 1):
        item_of(context, "ti").xcom_push(key=_part_key(number), value={})


def record_all_started(context: Context, asked: Asked) -> None:
    """Store, for the next try, that the task has started all its operations, and its value; see `all_started`."""
    if memory_to_write(context) is None:
        return
    where = {one: number for number, one in enumerate(_resumed(context))}
    try:
        value = json.dumps(asked.value)
        is_plain = json.loads(value) == asked.value
        numbers = [[where[one] for one in some] for some in (asked.operations, asked.in_value)]
    except (TypeError, ValueError, KeyError, RecursionError):  # The next try calls the function again.
        is_plain, value, numbers = False, "", []
    text = _packed([json.dumps([*numbers, value, run_started(context)]).encode()]) if is_plain else ""
    remember(context, STARTED_KEY, text if len(text) <= MOST_REMEMBERED else "")


def all_started(context: Context, text: str) -> Asked | None:
    """Return the data that `record_all_started` stored in the last try. This try has recorded the same operations.

    Return None if they are of an earlier run with the same id, which was deleted.
    """
    operations, in_value, value, started = json.loads(next(_unpacked(text)))
    if started != run_started(context):
        return None
    recorded = _resumed(context)
    return Asked(
        json.loads(value), [recorded[number] for number in in_value], [recorded[number] for number in operations]
    )


def _resumed(context: Context) -> list[str]:
    """Return the keys or names of the operations that the next try records again, in their order."""
    return [item.key or item.name for item in recorded_items(context) if item.ownership in RESUMED]


def _lines(asked: Asked) -> Iterator[bytes]:
    identity = asked.starts[0].identity if asked.starts else ""
    lists = {"in_value": asked.in_value, "operations": asked.operations}
    sets = {"set_aside": sorted(asked.set_aside), "uncounted": sorted(asked.uncounted)}
    yield encode({"identity": identity, **lists, **sets})
    for start in asked.starts:
        names = ("key", "method", "project", "repeat", "tries", "gone_since")
        yield encode({name: getattr(start, name) for name in names})
        yield encode(start.body)


def _packed(lines: Iterable[bytes]) -> str:
    compressor = lzma.LZMACompressor(filters=_FILTERS)
    packed = bytearray()
    for line in lines:
        packed += compressor.compress(line + b"\n")
    return base64.b64encode(bytes(packed + compressor.flush())).decode()


def _unpacked(text: str) -> Iterator[bytes]:
    """Yield the lines that were passed to `_packed`."""
    decompressor, rest = lzma.LZMADecompressor(), b""
    packed = base64.b64decode(text)
    while not decompressor.eof:
        rest += decompressor.decompress(packed, _READ)
        packed = b""
        *lines, rest = rest.split(b"\n")
        yield from lines


def _part_key(number: int) -> str:
    return KEPT_KEY if number == 1 else f"{KEPT_KEY}_{number}"
