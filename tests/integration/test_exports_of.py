"""For each kind of export, the provider's request for an ``ee.batch.Task`` is the one that ``task.start()`` sends."""

from __future__ import annotations

import socket
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from threading import Event, Thread
from time import sleep
from typing import TYPE_CHECKING, Any

import pytest
from ee.data import exportImage
from google.oauth2.credentials import Credentials

from airflow_ee_provider.earth_engine.ee_client.objects import place_of, read_value
from airflow_ee_provider.earth_engine.ee_client.session import ee_session
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, InvalidRequestError, PermissionDeniedError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.starting import Export, check_export, with_defaults
from airflow_ee_provider.exports.starter import Starter
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ee_provider.earth_engine.ee_client.session import EeSession
    from airflow_ee_provider.emulator import Emulator


class TaskInstance:
    dag_id, run_id, task_id, map_index, max_tries, try_number = "dag", "run", "task", -1, 0, 1


@contextmanager
def ee_initialised(records: list[str] | None = None) -> Iterator[tuple[Starter, EeSession]]:
    hook, context = EarthEngineHook(), {"ti": TaskInstance()}
    starter = Starter(hook, context, (records if records is not None else []).extend)  # type: ignore[arg-type]
    with ee_session(hook.account, starter, hook.log) as client:
        yield starter, client


def image(ee: Any) -> Any:
    return ee.Image(1).clip(ee.Geometry.Rectangle([0, 0, 1, 1]))


def features(ee: Any) -> Any:
    return ee.FeatureCollection([ee.Feature(ee.Geometry.Point([0, 0]), {"name": "x"})])


EXPORTS: dict[str, Callable[[Any], Any]] = {
    "image to a bucket": lambda ee: ee.batch.Export.image.toCloudStorage(
        image(ee), "x", bucket="b", fileNamePrefix="a/b", scale=1000, maxPixels=1e9, priority=7
    ),
    "image to Drive": lambda ee: ee.batch.Export.image.toDrive(image(ee), "x", folder="f", scale=1000),
    "image to an asset": lambda ee: ee.batch.Export.image.toAsset(
        image(ee), "x", "projects/earth-demo/assets/x", scale=1000
    ),
    "table to a bucket": lambda ee: ee.batch.Export.table.toCloudStorage(features(ee), "x", bucket="b"),
    "table to BigQuery": lambda ee: ee.batch.Export.table.toBigQuery(features(ee), "x", table="earth-demo.d.t"),
    "map to a bucket": lambda ee: ee.batch.Export.map.toCloudStorage(image(ee), "x", bucket="b", maxZoom=3),
    "video to a bucket": lambda ee: ee.batch.Export.video.toCloudStorage(
        ee.ImageCollection([image(ee).toUint8().addBands([image(ee), image(ee)])]), "x", bucket="b", dimensions=64
    ),
}


@pytest.mark.parametrize("what", EXPORTS)
def test_the_request_is_the_one_that_the_official_client_sends(what: str, earth_engine_emulator: Emulator) -> None:
    import ee

    ee.Initialize(CREDENTIALS, url=earth_engine_emulator.url, project="earth-demo")
    EXPORTS[what](ee).start()
    ee.Reset()
    with ee_initialised():
        [export] = read_value(EXPORTS[what](ee), "earth-demo", ()).operations

    [sent] = earth_engine_emulator.service.requests("POST", "*:export")
    del sent["body"]["requestId"]
    assert isinstance(export, Export)
    assert sent["path"] == f"projects/earth-demo/{export.kind}:export"
    assert sent["body"] == export.body
    check_export(export)


def test_a_classifier_is_exported_as_a_classifier(earth_engine_emulator: Emulator) -> None:
    """The description of the API that ships with the client, and that the emulator serves, has no classifiers."""
    assert earth_engine_emulator
    import ee

    with ee_initialised():
        classifier = ee.Classifier.smileCart()
        task = ee.batch.Export.classifier.toAsset(classifier, "x", "projects/earth-demo/assets/c")
        [export] = read_value(task, "earth-demo", ()).operations

    assert isinstance(export, Export)
    assert export.kind == "classifier"
    check_export(export)


def test_the_clients_own_workload_tag_is_kept(earth_engine_emulator: Emulator) -> None:
    assert earth_engine_emulator
    import ee

    with ee_initialised(), ee.data.workloadTagContext("mine"):
        [export] = read_value(EXPORTS["image to Drive"](ee), "earth-demo", ()).operations

    assert isinstance(export, Export)
    assert with_defaults(export.body, "dag", None)["workloadTag"] == "mine"


def returned_by(form: Callable[[Any], Any]) -> tuple[list[Any], str]:
    """Start a task, read it in a form, and return the operations found and the operation's name."""
    import ee

    with ee_initialised() as (starter, client):
        task = EXPORTS["image to Drive"](ee)
        task.start()
        return read_value(form(task), client.project, starter.started).operations, task.name


@pytest.mark.parametrize(
    "form",
    [
        lambda task: task,
        lambda task: task.name,
        lambda task: task.id,
        lambda task: task.status(),
        lambda task: {"name": task.name, "metadata": {"state": "PENDING"}},
        lambda task: {"id": task.id, "name": task.name, "started": "OK"},
        lambda task: {"north": [task], "south": None},
        lambda task: (each for each in ({task.id}, (), None)),
    ],
)
@pytest.mark.usefixtures("earth_engine_emulator")
def test_each_form_of_a_started_task_is_read_as_its_operation(form: Callable[[Any], Any]) -> None:
    found, name = returned_by(form)

    assert found == [OperationName.parse(name)]


@pytest.mark.parametrize("own", [{"a": 1}, "hello", [b"x"], 7, (1, {2}), None, {"path": "gs://b/x", "count": 2}])
def test_a_value_without_operations_is_returned_unchanged(own: Any) -> None:
    value, operations = read_value(own, "earth-demo", ())

    assert value is own
    assert operations == []


@pytest.mark.usefixtures("earth_engine_emulator")
def test_operations_are_replaced_in_place_and_texts_are_kept() -> None:
    import ee

    with ee_initialised() as (starter, client):
        task = EXPORTS["image to Drive"](ee)
        task.start()
        unstarted = EXPORTS["table to a bucket"](ee)
        own = {"id": task.id, "uri": "gs://b/x"}
        value, operations = read_value(
            ({"north": task, "n": 2}, [task.status(), task.id], own, [unstarted]), client.project, starter.started
        )

    assert value == ({"north": place_of(0), "n": 2}, [place_of(1), task.id], own, [place_of(2)])
    name = OperationName.parse(task.name)
    assert operations[:2] == [name, name]
    assert isinstance(operations[2], Export)
    assert operations[3:] == [name]


def test_the_task_of_another_client_is_read_as_its_operation() -> None:
    class Task:
        name = "projects/earth-demo/operations/ABC"

    assert read_value([Task()], "earth-demo", ()) == ([place_of(0)], [OperationName.parse(Task.name)])


def test_a_returned_list_of_all_tasks_is_refused(earth_engine_emulator: Emulator) -> None:
    import ee

    earth_engine_emulator.service.add("somebody else's")
    with ee_initialised(), pytest.raises(InvalidRequestError, match="A list contains operations of all users"):
        read_value(ee.batch.Task.list(), "earth-demo", ())


def test_operations_in_a_raw_list_of_the_api_are_not_adopted(earth_engine_emulator: Emulator) -> None:
    import ee

    earth_engine_emulator.service.add("somebody else's")
    with ee_initialised():
        listed = ee.data.listOperations()
        assert read_value(listed, "earth-demo", ()) == (listed, [])


#: Each way in which code starts an operation through the client's own state in this process.
STARTS: dict[str, Callable[[Any], Any]] = {
    "Task.start": lambda ee: EXPORTS["image to Drive"](ee).start(),
    "Task.start, twice": lambda ee: [task := EXPORTS["image to Drive"](ee), task.start(), task.start()],
    "a bare Task.start": lambda ee: ee.batch.Task.start(EXPORTS["image to Drive"](ee)),
    "ee.data.exportImage": lambda ee: ee.data.exportImage(None, EXPORTS["image to Drive"](ee).config),
    "a function imported before": lambda ee: exportImage("abc", EXPORTS["image to Drive"](ee).config),
    "startIngestion": lambda ee: ee.data.startIngestion(None, INGESTION),
    "startTableIngestion": lambda ee: ee.data.startTableIngestion("def", TABLE_INGESTION),
    "the resource itself": lambda ee: (
        ee.data._get_cloud_projects().image().export(project="projects/earth-demo", body=body_of(ee)).execute()
    ),
    "after ee.Initialize": lambda ee: [ee.Initialize(project="earth-demo"), EXPORTS["image to Drive"](ee).start()],
    "after its own credentials": lambda ee: [
        ee.Initialize(CREDENTIALS, url=URL[0], project="earth-demo"),
        EXPORTS["image to Drive"](ee).start(),
    ],
    "after ee.data.initialize": lambda ee: [
        ee.data.initialize(CREDENTIALS, cloud_api_base_url=URL[0], project="earth-demo"),
        EXPORTS["image to Drive"](ee).start(),
    ],
    "threads of a pool": lambda ee: list(
        ThreadPoolExecutor(4).map(lambda task: task.start(), [EXPORTS["image to Drive"](ee) for _ in range(8)])
    ),
}
INGESTION = {"name": "projects/earth-demo/assets/x", "tilesets": [{"sources": [{"uris": ["gs://b/x.tif"]}]}]}
TABLE_INGESTION = {"name": "projects/earth-demo/assets/x", "sources": [{"uris": ["gs://b/x.shp"]}]}
CREDENTIALS = Credentials(token="t")  # noqa: S106
URL: list[str] = []


def body_of(ee: Any) -> dict[str, Any]:
    [export] = read_value(EXPORTS["image to Drive"](ee), "earth-demo", ()).operations
    assert isinstance(export, Export)
    return dict(export.body)


@pytest.mark.parametrize("how", STARTS)
def test_every_start_is_recorded_and_has_a_request_id_of_the_provider(
    how: str, earth_engine_emulator: Emulator
) -> None:
    import ee

    URL[:] = [earth_engine_emulator.url]
    recorded: list[str] = []

    with ee_initialised(recorded) as (starter, _):
        STARTS[how](ee)
        starter.flush()  # Before Airflow 3.2, threads record nothing.
        assert sorted(starter.started) == sorted(recorded)

    service = earth_engine_emulator.service
    assert sorted(recorded) == sorted(service.operations)
    assert len(recorded) == (8 if "pool" in how else 1)
    assert {len(request["body"]["requestId"]) for request in service.requests("POST", "*:*port")} == {38}


def test_an_ingestion_whose_response_is_lost_is_started_once(earth_engine_emulator: Emulator) -> None:
    """The client alone repeats the request without an id, and starts two ingestions (``test_official_client.py``)."""
    import ee

    earth_engine_emulator.service.fail("reset_after", path="*:import")
    with ee_initialised() as (starter, _):
        ee.data.startIngestion("an-id", INGESTION)

        assert list(earth_engine_emulator.service.operations) == list(starter.started)
    assert len(earth_engine_emulator.service.requests("POST", "*:import")) == 2


def test_a_second_try_finds_the_exports_of_the_first_in_any_order(earth_engine_emulator: Emulator) -> None:
    import ee

    tasks = ["image to Drive", "image to a bucket", "table to a bucket"]
    with ee_initialised():
        for what in tasks:
            EXPORTS[what](ee).start()
    with ee_initialised() as (starter, _):
        for what in reversed(tasks):
            EXPORTS[what](ee).start()

    assert sorted(starter.started) == sorted(earth_engine_emulator.service.operations)
    assert len(starter.started) == 3


def test_a_refused_start_is_remembered_until_it_succeeds(earth_engine_emulator: Emulator) -> None:
    import ee

    earth_engine_emulator.service.fail("permission_denied", path="*:export", times=2)
    with ee_initialised() as (starter, _):
        for what in ("image to Drive", "image to a bucket", "image to Drive"):
            with suppress(ee.EEException):
                EXPORTS[what](ee).start()

        with pytest.raises(EarthEngineError, match="image:export 'x': projects/earth-demo: Permission") as refused:
            starter.raise_for_refused()

    assert str(refused.value).count("image:export") == 1


def test_the_client_starts_no_exports_after_a_kill(earth_engine_emulator: Emulator) -> None:
    import ee

    with ee_initialised() as (starter, _):
        starter.stop()
        with pytest.raises(ee.EEException, match="Not started, since the task is ending"):
            EXPORTS["image to Drive"](ee).start()

    assert not earth_engine_emulator.service.operations


def test_a_running_start_of_a_thread_completes_and_a_later_one_is_refused(earth_engine_emulator: Emulator) -> None:
    import ee

    earth_engine_emulator.service.fail("delay", path="*:export", seconds=1.0)
    recorded: list[str] = []
    first, second = (lambda e: [EXPORTS["image to Drive"](e) for _ in range(2)]), []

    def work(tasks: list[Any]) -> None:
        tasks[0].start()
        try:
            tasks[1].start()
        except ee.EEException as error:
            second.append(str(error))

    with ee_initialised(recorded) as (starter, _):
        thread = Thread(target=work, args=[first(ee)])
        thread.start()
        sleep(0.3)
    thread.join()
    starter.flush()  # In Airflow 3.0 to 3.2, a thread records nothing itself.

    assert recorded == list(earth_engine_emulator.service.operations)
    assert len(recorded) == 1
    assert second


def test_only_threads_that_still_work_are_logged(
    earth_engine_emulator: Emulator, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert earth_engine_emulator
    over = Event()
    pool = ThreadPoolExecutor(1, "idle-pool")
    with ee_initialised():
        pool.submit(int).result()
        Thread(target=over.wait, name="progress-bar", daemon=True).start()
    with ee_initialised():
        forgotten = Thread(target=over.wait, name="forgotten-work")
        forgotten.start()
    over.set()
    forgotten.join()
    pool.shutdown()

    captured = capfd.readouterr()
    written = captured.out + captured.err + caplog.text
    assert "forgotten-work" in written
    assert "progress-bar" not in written
    assert "idle-pool" not in written


def test_a_child_process_can_make_exports_and_cannot_start_them(earth_engine_emulator: Emulator) -> None:
    import ee

    # Not a `multiprocessing.Pool`: that ends its processes by SIGTERM, for which Airflow has its own handler.
    with ee_initialised(), ProcessPoolExecutor(2, get_context("fork")) as pool:
        made_there = list(pool.map(made, ["image to Drive", "table to a bucket"]))
        assert len(read_value(made_there, "earth-demo", ()).operations) == 2
        with pytest.raises(ee.EEException, match="child process cannot start"):
            pool.submit(started, "image to Drive").result()

    assert not earth_engine_emulator.service.operations


def test_a_spawned_process_has_no_client_and_the_log_names_a_remedy(
    earth_engine_emulator: Emulator, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert earth_engine_emulator
    import ee

    with (
        pytest.raises(ee.EEException, match="not initialized"),
        ee_initialised(),
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
    ):
        pool.submit(made, "image to Drive").result()

    captured = capfd.readouterr()
    assert "“Child processes” in docs/libraries.md" in captured.out + captured.err + caplog.text


def made(what: str) -> Any:
    import ee

    return EXPORTS[what](ee)


def started(what: str) -> Any:
    import ee

    return EXPORTS[what](ee).start()


def test_a_function_cannot_wait_for_a_browser(earth_engine_emulator: Emulator) -> None:
    assert earth_engine_emulator
    import ee

    with ee_initialised():
        assert ee.Authenticate() is True
        assert ee.Authenticate(auth_mode="notebook", force=False) is True
        with pytest.raises(InvalidRequestError, match="waits for a person with a browser"):
            ee.Authenticate(force=True)


def test_the_functions_own_sockets_have_no_timeout_of_the_provider(earth_engine_emulator: Emulator) -> None:
    assert earth_engine_emulator
    with ee_initialised():
        assert socket.getdefaulttimeout() is None


def test_the_client_is_reset_after_a_failed_initialization(earth_engine_emulator: Emulator) -> None:
    import ee

    earth_engine_emulator.service.fail("not_registered", path="*/algorithms", times=None)
    with (
        pytest.raises(PermissionDeniedError, match="Register the project"),
        ee_initialised(),
    ):
        pass

    assert not ee.data.is_initialized()
