"""The cost on a company's Airflow: ten days, 20,500 runs, 2.1 million XComs, 3,000 active operations.

It needs PostgreSQL's programs on this machine. With ``BEFORE=FOLDER``, it also measures the code in that folder on the
same database: a clone of this repository at an earlier commit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import requests
from seeding import Size, fill, name_of
from serving import AIRFLOW, table, use

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "system")]
from servers import Postgres  # noqa: E402

from dev.standalone import free_port  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: How many ended operations Earth Engine lists beside the active ones.
ENDED = 17_000

#: How many browser tabs poll at the same time, and for how many seconds.
TABS, LOOKING = 100, 20.0


def codes() -> dict[str, str]:
    """Return the code to measure: headings, and folders."""
    before = os.environ.get("BEFORE")
    return {**({"before": before} if before else {}), "now": str(HERE.parent)}


@contextmanager
def serving(
    *arguments: str, env: dict[str, str] | None = None, stdout: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """Run a process, and end it."""
    with subprocess.Popen(arguments, stdout=stdout, stderr=subprocess.DEVNULL, text=True, env=env) as process:
        try:
            yield process
        finally:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.terminate()


@contextmanager
def api_server(code: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run Airflow's API server with the code of a folder, and all users as admins; yield its URL and its process."""
    port = free_port()
    settings = {
        "PYTHONPATH": code,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
    }
    command = (AIRFLOW, "api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--apps", "core")
    # The server logs each request: it would block on a pipe that is full and not read.
    with serving(*command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL) as process:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                requests.get(f"{url}/api/v2/version", timeout=5).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(1)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        yield url, max(family, key=lambda one: one.memory_info().rss)


class Meanwhile:
    """Measures the response times of another endpoint of the API server, which needs no database."""

    def __init__(self, url: str) -> None:
        self._url, self._ends, self.took = url, threading.Event(), [0.0]
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._ends.is_set():
                begun = time.perf_counter()
                session.get(f"{self._url}/api/v2/version", timeout=120)
                self.took.append(time.perf_counter() - begun)
                self._ends.wait(0.02)

    def __enter__(self) -> Meanwhile:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def percentile(self, share: float = 0.99) -> float:
        """Return a percentile of the response times, in milliseconds."""
        return 1000 * sorted(self.took)[min(len(self.took) - 1, int(share * len(self.took)))]


class Results(dict[str, str]):
    """The results; each is printed at once, because all of them take many minutes."""

    def __setitem__(self, name: str, value: str) -> None:
        print(f"{name}: {value}", file=sys.stderr, flush=True)
        super().__setitem__(name, value)


def doors(code: str, emulator: str) -> dict[str, str]:
    """Send an API server the requests of the page and of the stale-operations operator."""
    found = Results()
    with api_server(code) as (url, process):
        headers = {"Authorization": f"Bearer {requests.get(f'{url}/auth/token', timeout=60).json()['access_token']}"}
        use(url, headers)
        quiet = Meanwhile(url)
        with quiet:
            time.sleep(5)
        before = process.memory_info().rss

        def ask(**params: Any) -> requests.Response:
            query = {"state": "active", "limit": 50, **params}
            return requests.get(f"{url}/earth-engine/operations", params=query, headers=headers, timeout=300)

        found["another request meanwhile, 99 %: nothing asked"] = f"{quiet.percentile():.0f} ms"
        for name in ("first answer", "answer, five seconds later"):
            asked = listed(emulator)
            with Meanwhile(url) as meanwhile:
                begun, answer = time.perf_counter(), ask()
                while answer.status_code == 504:
                    answer = ask()
                took = time.perf_counter() - begun
            found[f"{name} of the page"] = f"{took:.1f} s, {len(answer.content) / 1000:,.0f} kB"
            found[f"requests to Earth Engine for it ({name})"] = f"{listed(emulator) - asked}"
            found[f"another request meanwhile, 99 %: {name}"] = f"{meanwhile.percentile():.0f} ms"
            time.sleep(6)
        again = requests.get(
            f"{url}/earth-engine/operations",
            params={"state": "PENDING", "limit": 50},
            headers=headers | {"If-None-Match": ask(state="PENDING").headers.get("ETag", "none")},
            timeout=300,
        )
        found["unchanged"] = f"{again.status_code}, {len(again.content)} B"
        found |= orphans(url, headers)
        asked = listed(emulator)
        with Meanwhile(url) as meanwhile:
            answers = tabs(ask)
        found[f"{TABS} tabs, {LOOKING:.0f} s: answers"] = f"{answers}"
        found[f"{TABS} tabs: requests to Earth Engine"] = f"{listed(emulator) - asked}"
        found[f"{TABS} tabs: another request, 99 %"] = f"{meanwhile.percentile():.0f} ms"
        found["memory of the API server, more"] = f"{(process.memory_info().rss - before) / 2**20:.0f} MiB"
    return found


def orphans(url: str, headers: dict[str, str]) -> dict[str, str]:
    """Ask which of all active operations are orphaned, as the operator does."""
    size = Size()
    names = [name_of(*one) for one in size.records() if size.is_active(*one)]
    since = (size.created(size.runs - size.active - size.orphans) - timedelta(hours=2)).isoformat()
    with Meanwhile(url) as meanwhile:
        begun = time.perf_counter()
        answer = requests.post(
            f"{url}/earth-engine/orphans",
            json={"operation_names": names, "since": since},
            headers=headers,
            timeout=300,
        )
        took = time.perf_counter() - begun
    answer.raise_for_status()
    count = len(answer.json()["orphans"])
    return {
        "orphans": f"{took:.1f} s, {len(answer.content) / 1000:,.0f} kB, {count} of {len(names):,}",
        "another request meanwhile, 99 %: orphans": f"{meanwhile.percentile():.0f} ms",
    }


def tabs(ask: Callable[[], requests.Response]) -> int:
    """Send the requests of many tabs every five seconds; return the number of responses."""
    ends, count = time.monotonic() + LOOKING, []

    def look() -> None:
        while time.monotonic() < ends:
            count.append(ask().status_code)
            time.sleep(5)

    threads = [threading.Thread(target=look) for _ in range(TABS)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    return len(count)


def listed(emulator: str) -> int:
    """Return how many requests Earth Engine has received."""
    return len(requests.get(f"{emulator}/emulator/journal", timeout=300).json())


def command(code: str, *arguments: str) -> str:
    """Run ``airflow earth-engine``; return its seconds beyond a command of Airflow's own, and its memory."""
    took = []
    for words in (("connections", "list"), ("earth-engine", *arguments)):
        begun, peak = time.perf_counter(), 0
        process = subprocess.Popen(
            (AIRFLOW, *words),
            env={**os.environ, "PYTHONPATH": code},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            try:
                peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.05)
        process.wait()
        took.append(time.perf_counter() - begun)
    return f"{took[1] - took[0]:.1f} s, {peak / 2**20:.0f} MiB"


def reading(code: str, *arguments: str) -> dict[str, float]:
    """Run `sized`."""
    command = [sys.executable, str(HERE / "sized.py"), *arguments]
    env = {**os.environ, "PYTHONPATH": code}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def measured(code: str) -> dict[str, str]:
    """Measure the code of a folder."""
    found = Results()
    for name, arguments in (("", ()), (", one of them of ten days ago", ("oldest",))):
        one = reading(code, *arguments)
        found[f"statements for all active operations{name}"] = (
            f"{one['seconds']:.2f} s ({one['database_cpu']:.2f} s of a processor)"
        )
    with serving(sys.executable, str(HERE / "listed.py"), str(ENDED)) as listing:
        emulator = listing.stdout.readline().strip() if listing.stdout else ""
        extra = {"project": "demo", "is_anonymous": True}
        os.environ["AIRFLOW_CONN_EARTH_ENGINE_DEFAULT"] = json.dumps(
            {"conn_type": "earth_engine", "host": emulator, "extra": extra}
        )
        found |= doors(code, emulator)
        found["`airflow earth-engine list`, beyond `airflow connections list`"] = command(code, "list", "-o", "name")
        found["`airflow earth-engine orphans`"] = command(code, "orphans", "-o", "name")
    return found


def main() -> None:
    """Fill a database, and measure."""
    with ExitStack() as stack:
        if "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in os.environ:
            os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = stack.enter_context(Postgres()).url
        os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-ee-bench-")
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        os.environ["AIRFLOW__EARTH_ENGINE__ALLOWED_HOSTS"] = "127.0.0.1"
        subprocess.run([AIRFLOW, "db", "migrate"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        from airflow_ee_provider.base.airflow_versions import database_of_its_own

        rows = fill(database_of_its_own(), Size())
        results = {heading: measured(code) for heading, code in reversed(codes().items())}
    print("RESULT")
    print(
        f"PostgreSQL with {rows['dag_run']:,} runs of {rows['dag']:,} DAGs, {rows['task_instance']:,} task instances"
        f" and {rows['xcom']:,} XComs; 101,000 records of operations, 2,958 of which are active; Earth Engine lists"
        f" these and {ENDED:,} that have ended. One API server with one worker; *another request* is one for the API"
        " server's version, again and again. The page asks for 50 of the active operations. Airflow's own home page is"
        " opened 200 times before: the first requests after a server's start let Python's garbage collector go through"
        " all that Airflow has loaded, which takes half a second, once.\n"
    )
    names = dict.fromkeys(name for result in results.values() for name in result)
    print(table([[name, *(result.get(name, "") for result in results.values())] for name in names], "", *results))


if __name__ == "__main__":
    main()
