"""What a history is made from, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Plan:
    """A history to carry out; as a string, the line that replays it."""

    holder: str
    version: str
    strikes: tuple[tuple[int, str], ...] = ()
    #: The cleaner: a key of `CLEANERS`.
    cleaner: str = ""
    #: Whether the task has retries.
    retries: bool = True

    def __str__(self) -> str:
        return f"replay(Plan({self.holder!r}, {self.version!r}, {self.strikes!r}, {self.cleaner!r}, {self.retries}))"


@dataclass
class History:
    """The result of a plan."""

    plan: Plan
    violations: list[str] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)
    steps: int = 0
    struck: list[str] = field(default_factory=list)
