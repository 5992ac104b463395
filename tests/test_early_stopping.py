"""callbacks=early_stopping: a run ends when nothing improves any more, and a resumed one neither sooner nor later."""

import csv
from pathlib import Path

import pytest

from dae_lightning.errors import TrainingError
from tests.conftest import Run
from tests.faults.kills import differing_bits, outcome

STOPPING = ("callbacks=early_stopping", "callbacks.patience=2", "callbacks.min_delta=1", "trainer.max_epochs=6")


def epochs(folder: Path) -> int:
    with (folder / "metrics.csv").open() as file:
        return len(list(csv.DictReader(file)))


def test_a_run_ends_when_nothing_has_improved_for_as_many_epochs_as_one_has_patience(run: Run) -> None:
    assert epochs(run("run", *STOPPING)) == 3  # of which the first counts as the best: min_delta is out of reach


@pytest.mark.parametrize(("metric", "sign"), [("val/denoising/psnr", 1), ("val/denoising/bce", -1), ("train/loss", -1)])
def test_it_stops_where_the_column_of_metrics_says(run: Run, metric: str, sign: int) -> None:
    fast = ("optim.lr=3e-2", "trainer.max_epochs=8")  # too fast for a smooth descent
    with (run("all", *fast) / "metrics.csv").open() as file:
        values = [sign * float(row[metric]) for row in csv.DictReader(file)]
    last = [epoch for epoch in range(3, 8) if max(values[:epoch]) == max(values[: epoch - 2])]
    stopped = run("run", *STOPPING, *fast, "callbacks.min_delta=0", f"callbacks.monitor={metric}")
    assert epochs(stopped) == min([*last, 8])


def test_a_run_that_stopped_is_tested_again_or_continued_with_more_patience(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run("run", *STOPPING)
    last = folder / "checkpoints" / "last.ckpt"
    assert epochs(run("run", *STOPPING, checkpoint=last)) == 3
    assert "the run stopped early, after 3 epochs: it is only tested again" in capsys.readouterr().out
    assert epochs(run("run", *STOPPING, "callbacks.patience=4", checkpoint=last)) == 5


def test_a_resumed_run_stops_where_the_uninterrupted_one_does(run: Run) -> None:
    whole = outcome(run("whole", *STOPPING))
    half = run("half", *STOPPING, "trainer.max_epochs=2")
    run("half", *STOPPING, checkpoint=half / "checkpoints" / "last.ckpt")
    assert epochs(half) == 3
    assert differing_bits(outcome(half), whole) == 0


@pytest.mark.parametrize("none", ["data.val_size=0", "trainer.limit_val_batches=0"])
def test_without_a_validation_it_is_one_line(run: Run, none: str) -> None:
    with pytest.raises(TrainingError, match=rf"nothing is validated \({none}\); "):
        run("run", *STOPPING, none if none.startswith("data") else f"+{none}")


def test_the_training_loss_needs_no_validation(run: Run) -> None:
    assert epochs(run("run", *STOPPING, "data.val_size=0", "callbacks.monitor=train/loss")) == 3
