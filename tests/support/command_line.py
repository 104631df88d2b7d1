"""Runs the package's command line in this process."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.__main__ import main

if TYPE_CHECKING:
    import pytest


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


class CommandLine:
    """Runs a command in this process; only two tests start the program itself, which takes seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *arguments: str, answer: str | StringIO = "") -> Done:
        self._monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")  # Restored after the test, as a command sets it.
        self._monkeypatch.setattr(sys, "stdin", StringIO(answer) if isinstance(answer, str) else answer)
        self._capfd.readouterr()
        code, said = 0, ""
        try:
            main(list(arguments))
        except SystemExit as ended:  # For a text, Python prints it, and exits with 1.
            code, said = (1, ended.code) if isinstance(ended.code, str) else (int(ended.code or 0), "")
        captured = self._capfd.readouterr()
        return Done(code, captured.out, captured.err + said)

    def rows(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        done = self(*arguments, "--output", "json")
        assert done.returncode == code, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found
