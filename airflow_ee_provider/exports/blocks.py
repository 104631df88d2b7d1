"""The ``earth_engine()`` blocks of a task: each owns the operations that it starts, in place of the task."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.requested import Made, Repeats
from airflow_ee_provider.tracking.store import recorded_with_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict
    from airflow_ee_provider.exports.starter import Starter


class Blocks:
    """The blocks that this process has begun for a try of a task, in their order.

    Each operation belongs to the last block that has started or found it. Those of the last try belong to the block
    that asks for them again; or to the block with the same number, which waits for what it does not ask for.
    """

    #: Those of the task instance that this process runs now.
    _latest: ClassVar[Blocks | None] = None

    def __init__(self, ti: Any) -> None:
        self.ti, self.try_number = ti, ti.try_number
        self.begun: list[Block] = []
        #: The starts that blocks have made, except those of failed blocks, which may be made again.
        self.repeats: Repeats = defaultdict(set)
        #: How many blocks have failed, and their operations that have failed.
        self.failed, self.failed_operations = 0, set[str]()
        #: The block to which each operation belongs.
        self.owners: dict[str, Block] = {}
        #: The last try's operations that are active or have succeeded, each with its block's number; None if unread.
        self.left: dict[str, int] | None = None

    @classmethod
    def of(cls, ti: Any) -> Blocks:
        """Return the blocks of a task instance's present try."""
        latest = cls._latest
        if latest is None or latest.ti is not ti or latest.try_number != ti.try_number:
            latest = cls._latest = cls(ti)
        return latest

    @property
    def unclaimed(self) -> list[str]:
        """The last try's operations that belong to no block yet."""
        return [name for name in self.left or () if name not in self.owners]


class Block(ExportingOperator):
    """Owns the operations that a block starts.

    :param of_try: The blocks of this try, to which this one is added.
    """

    def __init__(self, *, of_try: Blocks, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.of_try, self.block = of_try, len(of_try.begun)
        self.repeats, self.failed_blocks = of_try.repeats, of_try.failed
        self._restarted = set(of_try.failed_operations)
        of_try.begun.append(self)

    def begin(self, context: Context) -> None:
        """Continue with the last try's operations of the block with the same number.

        The first block that can read the last try's record records all of these operations again.
        """
        blocks = self.of_try
        if blocks.left is None:
            before = {name for name, *_ in recorded_with_blocks(context)}
            super().begin(context)
            recorded = recorded_with_blocks(context)
            blocks.left = {name: block for name, _, block in recorded if name not in before}
        self.knows_operations = True
        self.operation_names = [name for name in blocks.unclaimed if blocks.left[name] == self.block]
        self._claim()

    def carry_out_all(self, context: Context, starter: Starter) -> list[OperationDict]:
        """Wait for the block's operations, if ``wait_for_completion`` is set, and return them."""
        asked = self.settle(context, starter, Made(None, []))
        self.carry_out(context, asked)
        return list(self.results.operations)

    @contextmanager
    def owned(self, context: Context) -> Iterator[None]:
        """Handle a kill, a timeout or a failure. If the block fails, a later one may make its starts again."""
        try:
            with super().owned(context):
                yield
        except BaseException:
            self.of_try.failed += 1
            self.of_try.failed_operations |= {one["name"] for one in self.results.ended if one["error"]}
            if self._starter:
                self._starter.release()
            raise
        finally:
            self._claim()

    def _claim(self) -> None:
        """Note that the block's operations belong to it, and no longer to an earlier block."""
        if self.of_try.left is not None:  # Otherwise `operation_names` has those of all blocks.
            self.of_try.owners.update(dict.fromkeys(self.named_operations, self))

    @property
    def named_operations(self) -> set[str]:
        """The operations that this block has started, found or waited for."""
        return super().all_operations

    @property
    def own_operations(self) -> list[str]:
        """The block's operations that are not known to have ended; for the last block, also those of no block."""
        owners = self.of_try.owners
        own = [name for name in super().own_operations if owners.get(name, self) is self]
        return list(dict.fromkeys([*own, *(self.of_try.unclaimed if self.of_try.begun[-1] is self else ())]))

    @property
    def all_operations(self) -> set[str]:
        """All operations of which the task's blocks know whether they have ended."""
        return set().union(*(block.named_operations for block in self.of_try.begun))

    def knows_all(self) -> bool:
        """Whether no other block's operations may still run, and all are known that the task has recorded."""
        *earlier, last = self.of_try.begun
        if last is not self or self.of_try.left is None or self.of_try.unclaimed:
            return False
        return not any(block.own_operations for block in earlier) and super().knows_all()
