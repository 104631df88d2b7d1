"""The ``earth_engine()`` blocks of a task: each owns the operations that it starts, in place of the task."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.requested import Made, Repeats
from airflow_ee_provider.tracking.record import Ownership
from airflow_ee_provider.tracking.store import recorded_items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict
    from airflow_ee_provider.exports.starter import Starter
    from airflow_ee_provider.tracking.kept_requests import Asked
    from airflow_ee_provider.tracking.record import RecordedItem


class Blocks:
    """The blocks that this process has begun for a try of a task, in their order.

    Each operation belongs to the last block that has started or found it. One of the last try belongs to the block that
    asks for it again; or to the block with the same number, which waits for what it does not ask for.
    """

    #: Those of the task instance that this process runs now.
    _latest: ClassVar[Blocks | None] = None

    def __init__(self, ti: Any) -> None:
        self.ti, self.try_number = ti, ti.try_number
        self.begun: list[Block] = []
        #: The starts that blocks have made, except those of failed blocks: a repeated block makes these again.
        self.repeats: Repeats = defaultdict(set)
        #: The block to which each operation belongs, as of the end of that block.
        self.owners: dict[str, Block] = {}
        #: The last try's operations that are active or have succeeded; None if no block has read them.
        self.left: dict[str, RecordedItem] | None = None

    @classmethod
    def of(cls, ti: Any) -> Blocks:
        """Return the blocks of a task instance's present try."""
        latest = cls._latest
        if latest is None or latest.ti is not ti or latest.try_number != ti.try_number:
            latest = cls._latest = cls(ti)
        return latest

    @property
    def unclaimed(self) -> list[RecordedItem]:
        """The last try's operations that belong to no block yet."""
        return [item for name, item in (self.left or {}).items() if name not in self.owners]


class Block(ExportingOperator):
    """Owns the operations that a block starts.

    :param of_try: The blocks of this try, to which this one is added.
    """

    def __init__(self, *, of_try: Blocks, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.of_try, self.block, self.repeats = of_try, len(of_try.begun), of_try.repeats
        self._starters: list[Starter] = []
        of_try.begun.append(self)

    def begin(self, context: Context) -> None:
        """Continue with the last try's operations of the block with the same number.

        The first block that can read the last try's record records all of these operations again. What the author's
        code has recorded has no key, and belongs to no block.
        """
        blocks = self.of_try
        if blocks.left is None:
            super().begin(context)
            blocks.left = {item.name: item for item in recorded_items(context) if item.key}
        self.knows_operations = True
        own = [item for item in blocks.unclaimed if (item.block, item.ownership) == (self.block, self.ownership)]
        self.operation_names = [item.name for item in own]

    def new_starter(self, context: Context, asked: Asked | None = None) -> Starter:
        """Use a new `Starter`, which knows the operations that other blocks of this try have started."""
        self._starters.append(super().new_starter(context, asked))
        return self._starters[-1]

    def carry_out_all(self, context: Context, starter: Starter) -> list[OperationDict]:
        """Wait for the block's operations, if ``wait_for_completion`` is set, and return them."""
        asked = self.settle(context, starter, Made(None, []))
        self.carry_out(context, asked)
        return list(self.results.operations)

    @contextmanager
    def owned(self, context: Context) -> Iterator[None]:
        """Handle a kill, a timeout or a failure. If the block fails, a repeated one makes the same starts again."""
        try:
            with super().owned(context):
                yield
        except BaseException:
            for starter in self._starters:
                starter.release()
            raise
        finally:
            if self.of_try.left is not None:  # Otherwise `operation_names` has those of all blocks.
                self.of_try.owners.update(dict.fromkeys(self.named_operations, self))

    @property
    def named_operations(self) -> set[str]:
        """The operations that this block has started, found or waited for."""
        return super().all_operations

    @property
    def own_operations(self) -> list[str]:
        """The block's operations that are not known to have ended; for the last block, also those of no block."""
        own, last = super().own_operations, self.of_try.begun[-1]
        if last is self:
            left = [item.name for item in self.of_try.unclaimed if item.ownership == Ownership.OWNER]
            return list(dict.fromkeys([*own, *left]))
        owners, taken = self.of_try.owners, last.named_operations
        return [name for name in own if owners.get(name, self) is self and name not in taken]

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
