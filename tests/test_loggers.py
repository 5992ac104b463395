"""Loggers beside metrics.csv: they get its rows, the settings, test results and figures, once, and never end a run."""

import csv
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dae_lightning.training.run import train
from tests.conftest import Run, Settings
from tests.faults.processes import Training, small

pytestmark = pytest.mark.filterwarnings("ignore")  # of the loggers' own libraries
TRAINED, TESTED = "train/loss", "test/denoising/psnr"
Points = dict[int, list[float]]  # step -> the values that are there


def points(pairs: list[tuple[int, float]]) -> Points:
    found: Points = {}
    for step, value in pairs:
        found.setdefault(step, []).append(value)
    return found


class InTensorBoard:
    overrides = ("logger=tensorboard", "logger.every_n_epochs=1", "logger.examples=2")

    def __init__(self, folder: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        self.folder = folder
        self.events = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "images": 0}).Reload()

    def metric(self, name: str) -> Points:
        return points([(event.step, event.value) for event in self.events.Scalars(name)])

    def latent(self) -> str:
        return str(yaml.safe_load((self.folder / "tensorboard" / "hparams.yaml").read_text())["latent"])

    def figures(self) -> set[str]:
        return {name.removeprefix("figures/") for name in self.events.Tags()["images"] if "/" in name}


class InMLflow:
    overrides = ("logger=mlflow", "logger.root=mlflow")

    def __init__(self, folder: Path) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow' / 'mlflow.db'}")
        (self.run,) = mlflow_runs(self.client)

    def metric(self, name: str) -> Points:
        history = self.client.get_metric_history(self.run.info.run_id, name)
        return points([(metric.step, metric.value) for metric in history])

    def latent(self) -> str:
        return str(self.run.data.params["latent"])

    def figures(self) -> set[str]:
        return {Path(file.path).stem for file in self.client.list_artifacts(self.run.info.run_id, "figures")}


def mlflow_runs(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name("dae_lightning")
    return list(client.search_runs([experiment.experiment_id]))


@pytest.fixture(params=[InTensorBoard, InMLflow], ids=["tensorboard", "mlflow"])
def inside(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """What reads a logger's own files."""
    pytest.importorskip(request.param.overrides[0].partition("=")[2])
    monkeypatch.chdir(tmp_path)
    return request.param


def rows(folder: Path, name: str) -> Points:
    """Of metrics.csv."""
    with (folder / "metrics.csv").open() as file:
        return points([(int(row["step"]), float(row[name])) for row in csv.DictReader(file)])


def approximately(expected: Points) -> Any:
    return {step: pytest.approx(values, rel=1e-6) for step, values in expected.items()}


def test_a_logger_gets_rows_settings_results_and_figures(inside: Any, run: Run) -> None:
    folder = run("run", *inside.overrides)
    log = inside(folder)
    for name in (TRAINED, "val/denoising/bce", "lr"):
        assert log.metric(name) == approximately(rows(folder, name))
    score = json.loads((folder / "results.json").read_text())["test"]["model"]["denoising"]["psnr"]
    assert log.metric(TESTED) == approximately({max(rows(folder, TRAINED)): [score]})
    assert log.figures() == {"loss", "train_examples", "test_examples"}
    assert log.latent() == "6"


def test_a_resumed_run_continues_with_no_step_twice_and_none_lost(inside: Any, run: Run, tmp_path: Path) -> None:
    folder = run("run", *inside.overrides)
    checkpoints = folder / "checkpoints"
    run("run", *inside.overrides, "trainer.max_epochs=4", checkpoint=checkpoints / "last.ckpt")
    whole = rows(folder, TRAINED)
    assert len(whole) == 4
    # tested again, and an epoch trained again that the logger has seen
    run("run", *inside.overrides, "trainer.max_epochs=4", checkpoint=checkpoints / "last.ckpt")
    run("run", *inside.overrides, "trainer.max_epochs=4", checkpoint=checkpoints / "previous.ckpt")
    assert inside(folder).metric(TRAINED) == approximately(whole)
    assert {step: len(values) for step, values in inside(folder).metric(TESTED).items()} == dict.fromkeys(
        [sorted(whole)[1], max(whole)], 1
    )


def test_what_a_logger_missed_it_gets_when_the_run_is_resumed(inside: Any, run: Run, tmp_path: Path) -> None:
    """As where its disk was full."""
    folder = run("run", "logger=csv")
    run("run", *inside.overrides, "trainer.max_epochs=3", checkpoint=folder / "checkpoints" / "last.ckpt")
    assert inside(folder).metric(TRAINED) == approximately(rows(folder, TRAINED))


def test_a_logger_that_fails_is_one_warning(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nobody = "http://127.0.0.1:9"
    train(settings("logger=mlflow", f"logger.tracking_uri={nobody}", "logger.root=mlflow"), tmp_path / "run")
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("epoch")]
    assert [line.split(" (")[0][:40] for line in said] == ["warning: logger=mlflow: MlflowException:"]
    assert (tmp_path / "run" / "results.json").is_file()


def wandb_records(session: Path) -> Iterator[Any]:
    """What W&B's offline file of a session holds: blocks of 32 KB, in them parts of records as in LevelDB's log."""
    from wandb.proto import wandb_internal_pb2 as records

    (file,) = session.glob("*.wandb")
    content, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := 2**15 - place % 2**15) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield records.Record.FromString(parts)
            parts = b""


def wandb_points(session: Path, name: str) -> Points:
    found = []
    for record in wandb_records(session):
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        if name in row:
            found.append((row["trainer/global_step"], row[name]))
    return points(found)


def test_wandb_offline_has_all_of_a_resumed_run_in_its_newest_session(run: Run) -> None:
    pytest.importorskip("wandb")
    offline = ("logger=wandb", "logger.offline=true")
    folder = run("run", *offline)
    (first,) = (folder / "wandb").glob("offline-run-*")
    run("run", *offline, "trainer.max_epochs=3", checkpoint=folder / "checkpoints" / "last.ckpt")
    first, second = sorted((folder / "wandb").glob("offline-run-*"))
    assert first.name.split("-")[-1] == second.name.split("-")[-1]
    assert len(wandb_points(first, TRAINED)) == 2
    assert wandb_points(second, TRAINED) == approximately(rows(folder, TRAINED))
    score = json.loads((folder / "results.json").read_text())["test"]["model"]["denoising"]["psnr"]
    assert wandb_points(second, TESTED) == approximately({max(rows(folder, TRAINED)): [score]})
    assert len(list((second / "files" / "media" / "images" / "figures").glob("*.png"))) == 3


def test_the_jobs_of_a_sweep_are_grouped_and_one_of_several_ranks_logs(idx_root: Path, tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    said = ("logger=mlflow", "logger.root=mlflow")
    for arguments in (["-m", "seed=0,1", "hydra.sweep.dir=mine"], ["trainer=ddp"]):
        training = Training(tmp_path, *arguments, *small(idx_root, *said))
        assert training.status() == 0, training.said
    runs = mlflow_runs(tracking.MlflowClient(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"))
    assert sorted(run.data.tags.get("sweep", "") for run in runs) == ["", "mine", "mine"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sorted(run.data.params["seed"] for run in runs) == ["0", "0", "1"]
