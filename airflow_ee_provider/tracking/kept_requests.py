"""The requests and the value of a task's function, stored in XComs: the function is called once in a try.

A task that waits in the triggerer resumes in another process. That one reads the remaining requests and the function's
value from XComs. A deferral is no new try, so Airflow does not delete them.

The requests of a grid of tiles differ by a region and a name. So they are compressed together, with a window that has
room for several large ones: 3,000 requests of 5 kB are 0.3 MB so, 3,000 of 200 kB 0.4 MB, 10,000 of 5 kB 0.9 MB.
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
from airflow_ee_provider.tracking.record import STARTED_KEY, item_of
from airflow_ee_provider.tracking.retry_memory import memory_to_write
from airflow_ee_provider.tracking.store import read_own, recorded_with_keys, remember

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.transport.drivers import Log

#: The XComs' keys: of the function's value, and of what is kept besides, in parts, the second one under ``…_2``.
VALUE_KEY, KEPT_KEY = "_earth_engine_value", "_earth_engine_kept"

#: How many characters one part has at most, and all together. What is larger is not kept: the task waits in its worker.
PART, MOST = 500_000, 4_000_000

#: How many characters are remembered under one key: `[state_store] max_value_storage_bytes`, and some to spare.
MOST_REMEMBERED = 60_000

#: The form of what this version writes.
VERSION = 1

#: How many bytes are unpacked at a time.
_READ = 1 << 20

#: Compression: fast, and with a window of some megabytes.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 8 << 20}]


@dataclass
class Asked:
    """The requests and the return value of a function.

    An operation is identified by its `Start.key`, or by its name if it was adopted.

    :param value: the function's value, with a `place_of` in place of each operation.
    :param in_value: the operations in these places, by their numbers.
    :param operations: All operations that the task waits for.
    :param starts: what is still to be started, or can be again.
    :param set_aside: operations of earlier tries that are to be followed by others.
    :param uncounted: what runs beside ``max_active_operations``.
    """

    value: Any = None
    in_value: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    set_aside: set[str] = field(default_factory=set)
    uncounted: set[str] = field(default_factory=set)
    #: In how many parts it is kept for another process; none if it is not.
    parts: int = 0

    def names(self, started: Mapping[str, str]) -> list[str]:
        """Return the operations that the task waits for and that are started.

        :param started: the latest operation of each `Start.key`.
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
    """Store what another process needs to continue, unless it is too large; return whether it is stored.

    :param starts: The `Asked.starts` that it may need.
    :param parameter: The parameter because of which they may be sent.
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
    """Return what the first process of this try has stored.

    :param started: The operations that are started, by `Start.key`, except `Asked.set_aside`.
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
    """A request's body, read where it is needed: as objects, many large ones would take five times the memory."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def __getitem__(self, name: str) -> Any:
        return _read(self._text)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_read(self._text))

    def __len__(self) -> int:
        return len(_read(self._text))


@lru_cache(maxsize=64)  # More than are sent at once.
def _read(text: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(text)
    return body


def let_go(context: Context, asked: Asked) -> None:
    """Empty what was kept, once the task has ended well."""
    for number in range(1, asked.parts + 1):
        item_of(context, "ti").xcom_push(key=_part_key(number), value={})


def record_all_started(context: Context, asked: Asked) -> None:
    """Write down that these are all that the task starts, and what it returns; see `all_started`."""
    if memory_to_write(context) is None:
        return
    where: dict[str, int] = {}
    for number, (name, key) in enumerate(recorded_with_keys(context)):
        where[key or name] = number
    try:
        value = json.dumps(asked.value)
        is_plain = json.loads(value) == asked.value
        numbers = [[where[one] for one in some] for some in (asked.operations, asked.in_value)]
    except (TypeError, ValueError, KeyError, RecursionError):  # The next try calls the function again.
        is_plain, value, numbers = False, "", []
    text = _packed([json.dumps([*numbers, value]).encode()]) if is_plain else ""
    remember(context, STARTED_KEY, text if len(text) <= MOST_REMEMBERED else "")


def all_started(context: Context, text: str) -> Asked:
    """Return what `record_all_started` has written down in the last try, of which this one has recorded everything."""
    operations, in_value, value = json.loads(next(_unpacked(text)))
    recorded = [key or name for name, key in recorded_with_keys(context)]
    return Asked(
        json.loads(value), [recorded[number] for number in in_value], [recorded[number] for number in operations]
    )


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
    """Yield what `_packed` was given, a line at a time."""
    decompressor, rest = lzma.LZMADecompressor(), b""
    packed = base64.b64decode(text)
    while not decompressor.eof:
        rest += decompressor.decompress(packed, _READ)
        packed = b""
        *lines, rest = rest.split(b"\n")
        yield from lines


def _part_key(number: int) -> str:
    return KEPT_KEY if number == 1 else f"{KEPT_KEY}_{number}"
