"""Runs a command in a terminal of its own, as a user does; Ctrl-C reaches the foreground processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

#: Makes the terminal the process's controlling terminal, and replaces the process with the command. As a shell does, it
#: first resets signals: a process that was started in the background ignores Ctrl-C, and so do its children.
_IN_THE_FOREGROUND = """
import fcntl, os, signal, sys, termios
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""

CTRL_C, CTRL_D = b"\x03", b"\x04"


class Terminal:
    """Runs a command; a context manager, which ends the command if it still runs."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
        self._master, inside = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _IN_THE_FOREGROUND, *command],
            env=dict(environment),
            cwd=folder,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)
        self._shown = bytearray()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        with suppress(OSError):  # The other end is closed.
            while shown := os.read(self._master, 65536):
                self._shown += shown

    @property
    def shown(self) -> str:
        """The output so far, without colours."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", bytes(self._shown).decode(errors="replace"))

    @property
    def has_ended(self) -> bool:
        """Whether the command has ended."""
        return self._process.poll() is not None

    def press(self, keys: bytes) -> None:
        """Send keys to the terminal."""
        os.write(self._master, keys)

    def __enter__(self) -> Terminal:
        """Return the terminal."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the command, if it still runs, and close the terminal."""
        if not self.has_ended:
            self._process.kill()
        self._process.wait()
        self._reading.join(10)
        os.close(self._master)
