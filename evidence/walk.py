"""``make walk``: counts the calls for one export, from its function's return to the cancel after a clear.

A history of the model: `@task.earth_engine(deferrable=True)` starts two exports, is deferred, its trigger polls three
times, a user clears the task, and both cancels are confirmed. Only calls in the package count, without the emulator.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import official
from greenlet import getcurrent
from history import Run
from plans import Plan
from triggerer_model import Triggerer
from world import Process

import airflow_ee_provider

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

PACKAGE = Path(airflow_ee_provider.__file__).parent
#: The most lines of a file.
LONGEST = 300
HOLDER, VERSION = "decorator, deferred", "3.3"
A, B, C = (
    "A worker: the function returns, the task is deferred",
    "B triggerer: the trigger begins and polls three times",
    "C triggerer: the task is cleared, the cancels are confirmed",
)


class Walk:
    """The calls of functions, in order."""

    def __init__(self) -> None:
        self.calls: dict[str, list[CodeType]] = defaultdict(list)
        self.has_returned = self.is_cleared = self.is_over = False

    def stretch(self) -> str:
        """Return the part of the walk in which the running code is; empty before and after the walk."""
        process: Process | None = getattr(getcurrent(), "process", None)
        if self.is_over or not self.has_returned:
            return ""
        if process is not None:
            return A if process.kind == "try 1" else ""
        return C if self.is_cleared else B

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        """Count a call; a function for `sys.setprofile`."""
        code = frame.f_code
        if event != "call" or code.co_name.startswith("<") or not code.co_filename.startswith(f"{PACKAGE}/"):
            return
        if not code.co_filename.startswith(f"{PACKAGE}/emulator/") and (stretch := self.stretch()):
            self.calls[stretch].append(code)

    def carry_out(self) -> None:
        """Carry out the history, and count the calls."""
        polled = [
            line for line in Run(Plan(HOLDER, VERSION)).carry_out().timeline if "triggerer:   … its answer" in line
        ]
        third_poll = int(polled[2 * 3 - 1].split()[1])  # Two exports, three times.
        run = Run(Plan(HOLDER, VERSION, ((third_poll, "task_cleared"),)))
        tiles, start, run_trigger, clear = official.tiles, Process.start, Triggerer._run_trigger, run.airflow.clear

        def returning() -> None:
            tiles()
            self.has_returned = True

        def profiled(process: Process, work: Callable[[], None]) -> None:
            def run() -> None:
                sys.setprofile(self.profile)
                work()

            start(process, run)

        def run_until_next(triggerer: Triggerer, number: int) -> Any:
            self.is_over |= self.is_cleared
            return run_trigger(triggerer, number)

        def clearing() -> None:
            self.is_cleared = True
            clear()

        with (
            mock.patch.object(official, "tiles", returning),
            mock.patch.object(Process, "start", profiled),
            mock.patch.object(Triggerer, "_run_trigger", run_until_next),
            mock.patch.object(run.airflow, "clear", clearing),
        ):
            sys.setprofile(self.profile)
            run.carry_out()
            sys.setprofile(None)
        assert self.is_over, "The task was not tried again."

    def rows(self) -> list[tuple[str, int, int, int, int]]:
        """Return the calls, files, functions and changes of file of each stretch, and of the whole walk."""
        stretches = {stretch: self.calls[stretch] for stretch in (A, B, C)}
        changes = {stretch: sum(map(_other_file, calls, calls[1:])) for stretch, calls in stretches.items()}
        parts = [
            (stretch, len(calls), len({code.co_filename for code in calls}), len(set(calls)), changes[stretch])
            for stretch, calls in stretches.items()
        ]
        whole = [code for calls in stretches.values() for code in calls]
        files, functions = len({code.co_filename for code in whole}), len(set(whole))
        return [*parts, ("A + B + C", len(whole), files, functions, sum(changes.values()))]


def size() -> tuple[int, dict[str, int]]:
    """Return the package's number of lines, and its files with too many lines."""
    files = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    lines = {name: text.count("\n") for name, text in files.items()}
    return sum(lines.values()), {name: number for name, number in lines.items() if number > LONGEST}


def _other_file(code: CodeType, following: CodeType) -> bool:
    return code.co_filename != following.co_filename


def main() -> None:
    walk = Walk()
    walk.carry_out()
    print("| stretch | calls | files | functions | changes of file |\n|---|---|---|---|---|")
    for stretch, *numbers in walk.rows():
        print(f"| {stretch} | {' | '.join(f'{number:,}' for number in numbers)} |")
    lines, long = size()
    print(f"\nThe package has {lines:,} lines; files of more than {LONGEST}: {long or 'none'}.")
    if "--functions" in sys.argv:
        for stretch in (A, B, C):
            print(f"\n{stretch}:")
            for code in dict.fromkeys(walk.calls[stretch]):
                print(f"  {Path(code.co_filename).relative_to(PACKAGE)}: {code.co_name}")


if __name__ == "__main__":
    main()
