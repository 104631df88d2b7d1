"""``make versions``: the unit and integration tests on every supported version: docs/results/versions.md."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from tabulate import tabulate

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from dev.evidence import stamp  # noqa: E402

UV = str(Path(sys.executable).parent / "uv")

#: The newest release of each minor version of Airflow, each with a constraints file; and the Python for each.
AIRFLOWS = ("2.11.2", "3.0.6", "3.1.8", "3.2.2", "3.3.2")
NEWEST, PYTHON = AIRFLOWS[-1], "3.11"
OTHER_PYTHONS = ("3.10", "3.12", "3.13", "3.14")
WHAT_IS_TESTED = (".[demo,earthengine,testing]", "--group", "test")

#: The dependencies of the lowest versions are of their time, except a package that is newer than the lowest Airflow.
AS_OF_THEN = (
    "--exclude-newer",
    "2025-08-01",
    "--exclude-newer-package",
    "apache-airflow-providers-common-compat=2026-11-01",
)

#: How pytest names a failing test: with several processes, with one process, and in the summary at the end.
FAILS = re.compile(r"\[gw\d+\] \[ *\d+%\] (FAILED|ERROR) |tests/\S+::.* (FAILED|ERROR) |(FAILED|ERROR) tests/")

#: Changes and findings about the clients since the first run: written by hand, for the end of the page.
CHANGED = (Path(__file__).parent / "changed.md").read_text(encoding="utf-8")

PAGE = """# Versions: tested combinations

`make versions` runs the unit and integration tests on the versions that `pyproject.toml` names, and writes this page.
*constraints*: dependencies as in `constraints/`. *lowest*: the lowest versions that the direct dependencies may have.
*newest*: the versions that PyPI had on that day, without constraints.

{table}

{changed}"""

HEADERS = ["Airflow", "Python", "dependencies", "passed", "skipped", "failed", "earthengine-api", "measured"]


@dataclass
class Combination:
    """An environment, and the results of the tests in it."""

    airflow: str
    python: str
    dependencies: str = "constraints"
    row: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"versions-{self.airflow}-{self.python}-{self.dependencies}"

    @property
    def _folder(self) -> Path:
        return ROOT / f".venv-{self.name}"

    @property
    def _interpreter(self) -> str:
        return str(self._folder / "bin" / "python")

    def make(self) -> None:
        """Create its environment, with a Python that uv finds on this machine."""
        made, needs = self._folder / "made", (ROOT / "pyproject.toml", *(ROOT / "constraints").iterdir())
        if made.exists() and made.stat().st_mtime > max(path.stat().st_mtime for path in needs):
            return
        # Find the Python before anything is removed; uv must not download another one.
        python = interpreter_of(self.python)
        shutil.rmtree(self._folder, ignore_errors=True)
        subprocess.run([UV, "venv", "--quiet", "--python", python, str(self._folder)], check=True)
        how = {
            "constraints": ("--constraint", f"constraints/airflow-{self.airflow}.txt"),
            "lowest": ("--resolution", "lowest-direct", *AS_OF_THEN),
            "newest": (),
        }[self.dependencies]
        airflow = [] if self.dependencies == "lowest" else [f"apache-airflow=={self.airflow}"]
        install = [UV, "pip", "install", "--quiet", "--python", self._interpreter, "--editable", *WHAT_IS_TESTED]
        subprocess.run([*install, *airflow, *how], cwd=ROOT, check=True)
        made.touch()

    def measure(self, processes: int) -> bool:
        """Run the tests; return whether all have passed."""
        report, log = self._folder / "tests.xml", self._folder / "tests.txt"
        report.unlink(missing_ok=True)
        measured = stamp("versions")  # Before the tests: the code may change while they run.
        self._run_tests(log, "--numprocesses", str(processes), f"--junitxml={report}")
        if not report.exists():
            raise SystemExit(f"The tests came to no end: {log}")
        seen = ET.parse(report).getroot()[0].attrib  # noqa: S314 (pytest has written it)
        failed = int(seen["failures"]) + int(seen["errors"])
        skipped = int(seen["skipped"])
        passed = int(seen["tests"]) - failed - skipped
        counts = (str(passed), str(skipped), str(failed))
        versions = (self._version("earthengine-api"), str(measured))
        self.row = [self._version("apache-airflow"), self.python, self.dependencies, *counts, *versions]
        return not failed

    def _run_tests(self, log: Path, *options: str) -> None:
        """Run the tests, and store their output. Print each failing test at once, because a run may not finish."""
        tests = [self._interpreter, "-m", "pytest", "--verbose", *options, "tests/unit", "tests/integration"]
        with (
            log.open("w", encoding="utf-8") as kept,
            subprocess.Popen(tests, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running,
        ):
            line = ""
            for line in running.stdout or ():
                kept.write(line)
                kept.flush()
                if FAILS.match(line):
                    print(line, end="", flush=True)
            print(f"{line.strip()}: {log}", flush=True)

    def _version(self, package: str) -> str:
        code = f"from importlib.metadata import version; print(version({package!r}))"
        return subprocess.run(
            [self._interpreter, "-c", code], check=True, capture_output=True, text=True
        ).stdout.strip()


COMBINATIONS = [
    *(Combination(airflow, PYTHON) for airflow in AIRFLOWS),
    *(Combination(NEWEST, python) for python in OTHER_PYTHONS),
    Combination("lowest", "3.10", "lowest"),
    Combination(NEWEST, "3.13", "newest"),
]


def interpreter_of(python: str) -> str:
    """Return where uv finds a Python: a name on the PATH may be a shim, such as pyenv's, that starts no Python."""
    found = subprocess.run(
        [UV, "python", "find", "--no-project", "--system", python],
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise SystemExit(
            f"uv finds no Python {python} on this machine. Install one; where pyenv has it, name it in PYENV_VERSION "
            f"(`pyenv versions` lists them). uv says:\n{found.stderr.strip()}"
        )
    return found.stdout.strip()


def rows_of(page: Path) -> dict[tuple[str, ...], list[str]]:
    """Read the page's rows, so that a part of them can be measured again."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    lines = text.partition("\n## ")[0].splitlines()  # Below the heading, CHANGED has a table of its own.
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {tuple(row[:3]): row for row in cells[2:]}


def page_of(rows: dict[tuple[str, ...], list[str]]) -> str:
    """Return the page with these rows."""
    table = tabulate(sorted(rows.values()), HEADERS, tablefmt="github", disable_numparse=True)
    return PAGE.format(changed=CHANGED, table=table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("only", nargs="*", help="names of combinations, or parts of them")
    parser.add_argument("--processes", type=int, default=4, help="how many tests run at a time")
    options = parser.parse_args()
    chosen = [one for one in COMBINATIONS if not options.only or any(part in one.name for part in options.only)]
    rows, good = rows_of(options.page), True
    for combination in chosen:
        print(f"== {combination.name}", flush=True)
        combination.make()
        good &= combination.measure(options.processes)
        rows[tuple(combination.row[:3])] = combination.row
        options.page.write_text(page_of(rows), encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
