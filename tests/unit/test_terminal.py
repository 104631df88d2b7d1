"""The terminal in which tests run commands as a user does."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from eventually import eventually
from terminal import CTRL_C, Terminal

if TYPE_CHECKING:
    from pathlib import Path


def test_ctrl_c_reaches_a_command_although_the_tests_run_in_the_background(tmp_path: Path) -> None:
    """A shell without job control starts a background process with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        command = [sys.executable, "-c", "print('ready', flush=True); import time; time.sleep(60)"]
        with Terminal(command, os.environ, str(tmp_path)) as terminal:
            eventually(lambda: "ready" in terminal.shown, "the command")
            terminal.press(CTRL_C)
            eventually(lambda: "KeyboardInterrupt" in terminal.shown, "the interrupt", within=30)
    finally:
        signal.signal(signal.SIGINT, before)
