"""How PostgreSQL, MariaDB and SQLite execute the statements of the page and of the collector, at a company's size.

EXPLAIN shows how each statement reads its tables. It needs PostgreSQL's programs, and for MariaDB also MariaDB's
programs, mysqlclient and aiomysql.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seeding import Size, fill
from serving import AIRFLOW, table

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "system")]
from servers import Postgres, Server  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

REPEATED = 3
#: XComs of each task instance that are not the provider's; and ten times as many.
FOREIGN, TEN_TIMES = 6, 60


class MariaDb(Server):
    """An empty MariaDB database ``airflow``; each user of this machine may connect as root."""

    user = "mysql" if os.geteuid() == 0 else None

    def command(self) -> list[str]:
        """Return the server's command line."""
        address = ("--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self.folder}/socket")
        return ["mariadbd", "--no-defaults", f"--datadir={self.folder}/data", "--innodb-buffer-pool-size=1G", *address]

    def start(self) -> None:
        """Create the database, and start the server."""
        how = ("--auth-root-authentication-method=normal", "--skip-test-db")
        self._run("mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data", *how)
        super().start()
        create = "create database airflow character set utf8mb4"
        self._run("mariadb", f"--socket={self.folder}/socket", "--user=root", "--execute", create)

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server with SIGTERM: it ignores SIGINT."""
        super().stop(sent)

    def _run(self, *command: str) -> None:
        subprocess.run(command, cwd=self.folder, user=self.user, check=True, capture_output=True)

    @property
    def url(self) -> str:
        """The database's URL."""
        return f"mysql+mysqldb://root@127.0.0.1:{self.port}/airflow?charset=utf8mb4"


class Statements:
    """The statements of a process, with their arguments."""

    def __init__(self, engine: Any) -> None:
        from sqlalchemy import event

        self.seen: dict[str, Any] = {}
        event.listen(engine, "before_cursor_execute", self._add)

    def _add(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().lower().startswith("select"):
            self.seen.setdefault(statement, parameters)


def ask(foreign: int) -> dict[str, Any]:
    """Let the page and the collector read, and explain their statements; called in a process of its own."""
    from airflow import settings
    from collector import looks
    from sized import active_operations

    from airflow_ee_provider.base.airflow_versions import database_of_its_own
    from airflow_ee_provider.tracking.database import read_holdings
    from airflow_ee_provider.tracking.holders import with_holders

    rows = fill(database_of_its_own(), Size(foreign=foreign))
    found = []
    seen = Statements(settings.engine)
    if not all(one.holders for one in with_holders(active_operations(Size()), read_holdings)):
        raise AssertionError("Some have no task.")
    found += [("page", *one) for one in _explained(seen)]
    engine = database_of_its_own()
    seen = Statements(engine)
    looks(engine, 1)
    found += [("collector", *one) for one in _explained(seen)]
    return {"rows": rows, "statements": found}


def _explained(statements: Statements) -> Iterator[tuple[list[str], int, float]]:
    """Yield for each statement how it reads its tables, how many rows it returns, and its seconds."""
    from airflow_ee_provider.base.airflow_versions import database_of_its_own

    connection = database_of_its_own().raw_connection()
    for statement, parameters in statements.seen.items():
        cursor, took = connection.cursor(), []
        for _ in range(REPEATED):
            begun = time.perf_counter()
            cursor.execute(statement, parameters)
            count = len(cursor.fetchall())
            took.append(time.perf_counter() - begun)
        kind = type(cursor).__module__.partition(".")[0]
        cursor.execute(f"{EXPLAIN[kind][0]} {statement}", parameters)
        yield list(dict.fromkeys(EXPLAIN[kind][1](cursor.fetchall()))), count, min(took)
    connection.close()


def _of_postgres(rows: list[Any]) -> Iterator[str]:
    def walk(node: dict[str, Any]) -> Iterator[str]:
        if name := node.get("Relation Name"):
            yield f"{name}: {node['Node Type']}" + (f" ({index})" if (index := node.get("Index Name")) else "")
        for part in node.get("Plans", ()):
            if part["Node Type"] == "Bitmap Index Scan":
                yield f"{node['Relation Name']}: by {part['Index Name']}"
            yield from walk(part)

    yield from walk(rows[0][0][0]["Plan"])


def _of_mariadb(rows: list[Any]) -> Iterator[str]:
    for _, _, name, kind, _, index, *_ in rows:
        yield f"{name}: {kind}" + (f" ({index})" if index else "")


def _of_sqlite(rows: list[Any]) -> Iterator[str]:
    for *_, detail in rows:
        if found := re.match(
            r"(SEARCH|SCAN) (\w+)(?: USING (?:COVERING |INTEGER )?(?:INDEX )?(\w+(?: KEY)?))?", detail
        ):
            yield f"{found[2]}: {found[1].lower()}" + (f" ({found[3]})" if found[3] else "")


#: By driver, the words that explain a statement, and the function that reads the result.
EXPLAIN = {
    "psycopg2": ("explain (format json)", _of_postgres),
    "MySQLdb": ("explain", _of_mariadb),
    "sqlite3": ("explain query plan", _of_sqlite),
}


def measured(server: AbstractContextManager[Any], foreign: int) -> dict[str, Any]:
    """Fill a database, and explain the statements in another process."""
    home = tempfile.mkdtemp(prefix="airflow-ee-bench-")
    with server as running:
        url = running.url if running else f"sqlite:///{home}/airflow.db"
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
        }
        subprocess.run([AIRFLOW, "db", "migrate"], check=True, env=env, stdout=subprocess.DEVNULL)
        command = [sys.executable, __file__, str(foreign)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    shutil.rmtree(home)
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def main() -> None:
    """Measure all."""
    databases: dict[str, tuple[AbstractContextManager[Any], int]] = {"PostgreSQL": (Postgres(), FOREIGN)}
    databases["PostgreSQL, ten times the other XComs"] = (Postgres(), TEN_TIMES)
    if shutil.which("mariadbd") and find_spec("MySQLdb") and find_spec("aiomysql"):
        databases["MariaDB"] = (MariaDb(), FOREIGN)
    databases["SQLite"] = (nullcontext(), FOREIGN)
    results = {}
    for name, (server, foreign) in databases.items():
        results[name] = measured(server, foreign)
        print(name, results[name], file=sys.stderr, flush=True)
    print(page(results))


def page(results: dict[str, Any]) -> str:
    """Return the text for the page, with a row for each database and reader."""
    rows = []
    for name, result in results.items():
        for reader in ("page", "collector"):
            of = [one for one in result["statements"] if one[0] == reader]
            reads = {read for _, plan, _, _ in of for read in plan if read.startswith(("xcom", "record"))}
            indexes = sorted({index for read in reads for index in re.findall(r"\((\w+)\)|: Seq|: ALL|: scan$", read)})
            took = [seconds for *_, seconds in of]
            xcoms = f"{result['rows']['xcom']:,}"
            rows.append([name, xcoms, reader, len(of), f"{sum(took):.2f}", f"{max(took):.2f}", ", ".join(indexes)])
    heading = ("database", "XComs", "reader", "statements", "s", "slowest, s", "XComs are read by")
    return (
        "RESULT\nThe statements of one look for 2,958 active operations, with EXPLAIN. No index of this package is"
        " needed, and no database reads a table of XComs as a whole. *xcom_pkey*, *PRIMARY* and"
        " *sqlite_autoindex_xcom_1* are the primary key: the cost follows the active records. SQLite alone, with which"
        " Airflow is not run in production, begins the collector's look with the records of all runs"
        " (*idx_xcom_key*).\n\n" + table(rows, *heading)
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(ask(int(sys.argv[1]))))
    else:
        main()
