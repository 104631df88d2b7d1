"""The command line, as a person and a cron job use it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from airflow import __version__ as airflow_version
from airflow.configuration import conf
from command_line import CommandLine
from eventually import eventually
from task_states import set_states
from typed import mistakes

from airflow_ee_provider.tracking.holders import HeldOperationDict
from airflow_ee_provider.tracking.overview import ListedOperationDict

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator

OURS = (sys.executable, "-m", "airflow_ee_provider")
#: Airflow 3.2 and later take commands from providers. On Python 3.14, Airflow 3.3.2 itself writes warnings to the
#: standard output of each command (docs/results/versions.md).
AIRFLOWS = (str(Path(sys.executable).parent / "airflow"), "earth-engine")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def bystander(earth_engine_emulator: Emulator, orphan: str) -> str:  # noqa: ARG001 (added after the orphan)
    return earth_engine_emulator.service.add("a colleague's")


def test_list_shows_the_tasks_of_each_operation(call: CommandLine, orphan: str, bystander: str) -> None:
    by_name = {row["name"]: row for row in call.rows("list")}

    [holder] = by_name[orphan]["holders"]
    assert (holder["dag_id"], holder["task_id"]) == ("held_owner", "task")
    assert by_name[orphan]["orphaned"] is True
    assert by_name[bystander]["holders"] == []
    assert by_name[bystander]["orphaned"] is False


def test_filters_choose_operations(call: CommandLine, orphan: str, bystander: str) -> None:
    assert [row["name"] for row in call.rows("list", "--description", "ndvi-*")] == [orphan]
    assert [row["name"] for row in call.rows("list", "--dag-id", "held_owner")] == [orphan]
    assert call.rows("list", "--older-than", "2h", "--all") == []
    assert {row["name"] for row in call.rows("list", "--state", "RUNNING")} == {orphan, bystander}


def test_list_prints_a_table_and_show_prints_all_fields(call: CommandLine, orphan: str) -> None:
    table, full = call("list"), call("show", orphan)

    assert "name" in table.stdout.splitlines()[1], table.stdout + table.stderr
    assert orphan in table.stdout
    assert "destination_uris" in full.stdout, full.stderr
    assert "held_owner.task of " in full.stdout


def test_only_orphans_are_listed_and_cancelled(
    call: CommandLine, earth_engine_emulator: Emulator, orphan: str, bystander: str
) -> None:
    assert [row["name"] for row in call.rows("orphans")] == [orphan]

    [result] = call.rows("orphans", "--cancel", "--yes")

    assert (result["name"], result["outcome"]) == (orphan, "CANCELLED")
    assert earth_engine_emulator.service.state(orphan) == "CANCELLED"
    assert earth_engine_emulator.service.state(bystander) == "RUNNING"
    assert "nothing to cancel" in call("orphans", "--cancel", "--yes").stderr


class Slow(StringIO):
    """A user who answers yes after a task has begun to wait for the orphan."""

    def readline(self, *_: Any) -> str:
        set_states("held_owner", "deferred", "running")
        return "y\n"


def test_an_orphan_that_a_task_needs_when_the_user_answers_is_not_cancelled(
    call: CommandLine, earth_engine_emulator: Emulator, orphan: str
) -> None:
    done = call("orphans", "--cancel", answer=Slow())

    assert earth_engine_emulator.service.state(orphan) == "RUNNING", done.stdout
    assert "(deferred; its run running). It is no longer orphaned, and is not cancelled." in done.stderr
    assert "There is nothing to cancel." in done.stderr


def test_cancel_asks_for_confirmation_and_names_the_operations_task(
    call: CommandLine, earth_engine_emulator: Emulator, orphan: str
) -> None:
    refused = call("cancel", orphan, answer="n\n")

    assert refused.returncode == 1
    assert "Nothing was cancelled" in refused.stderr
    assert "held_owner.task of " in refused.stderr
    assert earth_engine_emulator.service.state(orphan) == "RUNNING"
    assert call("cancel", orphan, answer="y\n").returncode == 0
    assert earth_engine_emulator.service.state(orphan) == "CANCELLED"


def test_a_cancel_that_is_not_confirmed_fails(call: CommandLine, earth_engine_emulator: Emulator) -> None:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=3600)
    slow = earth_engine_emulator.service.add("slow")

    [result] = call.rows("cancel", slow, "--yes", "--timeout", "1s", code=1)

    assert result["outcome"] == "STILL_CANCELLING"


def test_a_cancel_without_names_or_filters_is_refused(
    call: CommandLine, orphan: str, earth_engine_emulator: Emulator
) -> None:
    assert "everybody's would be cancelled" in call("cancel", "--yes").stderr
    assert earth_engine_emulator.service.state(orphan) == "RUNNING"


def test_wait_ends_with_the_operation_and_prints_its_state(
    call: CommandLine, earth_engine_emulator: Emulator, orphan: str
) -> None:
    good = earth_engine_emulator.service.add("good")
    earth_engine_emulator.service.finish(good)
    earth_engine_emulator.service.finish(orphan, "FAILED")

    assert call.rows("wait", good, "--poll-interval", "1s")[0]["state"] == "SUCCEEDED"
    assert call.rows("wait", good, orphan, "--poll-interval", "1s", code=1)[1]["state"] == "FAILED"


def test_an_error_is_printed_without_a_traceback(call: CommandLine, earth_engine_emulator: Emulator) -> None:  # noqa: ARG001
    for done in (call("show", "projects/p/operations/"), call("list", "--conn-id", "not_there")):
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_json_and_yaml_have_the_types_and_names_of_the_results(call: CommandLine, orphan: str) -> None:
    [listed] = call.rows("list")
    [shown] = call.rows("show", orphan)

    for rows in (call.rows("orphans"), [listed], [shown], yaml.safe_load(call("orphans", "--output", "yaml").stdout)):
        assert [mistakes(row, ListedOperationDict) for row in rows] == [[]]
    assert {name: type(value) for name, value in listed.items()} == {n: type(value) for n, value in shown.items()}
    assert set(ListedOperationDict.__annotations__) | set(HeldOperationDict.__annotations__) <= set(listed)
    assert isinstance(listed["done"], bool)
    assert isinstance(listed["batch_eecu_usage_seconds"], float)
    [again] = yaml.safe_load(call("list", "--output", "yaml").stdout)
    assert again["holders"] == listed["holders"]
    assert isinstance(again["orphaned"], bool)


def test_output_name_prints_only_names_and_no_table_outside_a_terminal_wraps_a_name(
    call: CommandLine, orphan: str
) -> None:
    assert call("list", "--output", "name").stdout == f"{orphan}\n"
    assert orphan in call("list").stdout
    assert orphan in call("list", "--output", "plain").stdout


def test_cancel_without_a_terminal_asks_nothing_and_cancels_nothing(
    call: CommandLine, earth_engine_emulator: Emulator, orphan: str
) -> None:
    done = call("cancel", orphan, answer="")

    assert done.returncode == 2
    assert "no terminal to ask in" in done.stderr
    assert earth_engine_emulator.service.state(orphan) == "RUNNING"


@pytest.mark.parametrize("name", ["--description", "--description-regex", "--type"])
def test_an_empty_filter_from_an_unset_shell_variable_is_refused(call: CommandLine, orphan: str, name: str) -> None:
    done = call("cancel", "--yes", name, "", "--older-than", "0s")

    assert done.returncode == 1
    assert f"{name} is empty" in done.stderr
    assert orphan in call("list", "--output", "name").stdout


def test_an_empty_dag_id_connection_or_project_is_refused(call: CommandLine, orphan: str) -> None:
    """If the command ignored it, it would choose operations of other DAGs or of another project."""
    for command in (["cancel", "--yes", "--older-than", "0s"], ["orphans", "--cancel", "--yes"], ["list"]):
        for name in ("--dag-id", "--conn-id", "--project-id"):
            done = call(*command, name, "")

            assert done.returncode == 2
            assert f"argument {name}: it is empty" in done.stderr
    assert orphan in call("list", "--output", "name").stdout


def test_orphans_are_cancelled_if_the_system_starts_no_more_threads(
    call: CommandLine, orphan: str, earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert [row["outcome"] for row in call.rows("orphans", "--cancel", "--yes")] == ["CANCELLED"]
    assert earth_engine_emulator.service.state(orphan) == "CANCELLED"


def test_filters_together_with_names_are_refused(call: CommandLine, orphan: str) -> None:
    for filters in (["--older-than", "2h"], ["--dag-id", "another"], ["--state", "PENDING"]):
        done = call("cancel", orphan, "--yes", *filters)

        assert done.returncode == 1
        assert "not both" in done.stderr
    assert orphan in call("list", "--output", "name").stdout


def test_filters_that_match_every_operation_are_refused(call: CommandLine, orphan: str) -> None:
    done = call("cancel", "--yes", "--description", "*")

    assert done.returncode == 1
    assert "every operation of every user" in done.stderr
    assert orphan in call("list", "--output", "name").stdout


def test_a_closed_pipe_causes_no_traceback(orphan: str) -> None:  # noqa: ARG001
    shell = f"set -o pipefail; {' '.join(OURS)} list --output json | head -1"

    done = subprocess.run(["bash", "-c", shell], check=False, capture_output=True, text=True, timeout=600)  # noqa: S603, S607

    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", [OURS, AIRFLOWS])
def test_the_program_writes_its_result_to_standard_output(
    orphan: str, program: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if program == AIRFLOWS and airflow_version < "3.2":
        pytest.skip("Airflow takes commands from providers from 3.2 on")

    if program == AIRFLOWS:
        monkeypatch.setenv("PYTHONWARNINGS", "ignore::PendingDeprecationWarning")

    done = subprocess.run(  # noqa: S603
        [*program, "orphans", "--output", "json"], check=False, capture_output=True, text=True, timeout=600
    )

    assert [row["name"] for row in json.loads(done.stdout)] == [orphan], done.stderr
    assert "RFC3986" not in done.stderr


def test_warnings_of_airflow_are_not_in_the_result(orphan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as for an option under its old name, while Airflow is imported."""
    monkeypatch.setenv("AIRFLOW__CORE__SQL_ALCHEMY_CONN", conf.get("database", "sql_alchemy_conn"))
    # Airflow 3.0 and 3.1 do not know that one, and Airflow 2 does not know this one as old.
    monkeypatch.setenv("AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL", "300")

    done = subprocess.run(  # noqa: S603
        [*OURS, "orphans", "--output", "name"], check=False, capture_output=True, text=True, timeout=600
    )

    assert done.stdout == f"{orphan}\n", done.stderr
    assert "the old setting has been used" in done.stderr


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_a_script_can_filter_operations_with_jq(orphan: str, bystander: str) -> None:
    ours = " ".join(OURS)
    chosen = "jq --raw-output '.[] | select(.orphaned | not) | .name'"
    shell = f"{ours} list --output json | {chosen} | xargs {ours} show --output name"

    done = subprocess.run(["bash", "-c", shell], check=False, capture_output=True, text=True, timeout=600)  # noqa: S603, S607

    assert done.stdout == f"{bystander}\n", done.stderr
    assert orphan not in done.stdout


def test_ctrl_c_while_a_cancel_is_being_confirmed_prints_one_line(orphan: str, earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=3600)
    command = [*OURS, "cancel", orphan, "--yes", "--timeout", "10m"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            eventually(lambda: service.operations[orphan].cancel_requested is not None, "the cancel")
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=300)
        finally:
            process.kill()

    assert (process.returncode, stdout) == (130, "")
    assert stderr.rstrip().endswith("Interrupted.")
    assert "Traceback" not in stderr
