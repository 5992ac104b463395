"""Several ranks are one process: the same images, the same noise, the same weights; and one of them writes."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from dae_lightning import files
from dae_lightning.cli.checks import check_start, check_sweep
from dae_lightning.errors import ConfigError, TrainingError
from dae_lightning.training import run as training
from dae_lightning.training.ddp import share
from dae_lightning.training.many_steps import ManySteps
from dae_lightning.training.ranks import Rank
from tests.conftest import Run, Settings, weights
from tests.faults.kills import differing_bits, outcome
from tests.faults.processes import FORK, PATIENCE, free_port, torchrun
from tests.test_training import rows

TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
THREE = (*TWO[:2], "trainer.devices=3")
UNEVEN = ("batch_size=7", "trainer.max_epochs=2")  # 120 images: the last batch of an epoch is one image


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Run:
    """Train in this process, or with trainer=ddp in ranks forked from it that find what torchrun would give them."""

    def trained(name: str, *overrides: str, checkpoint: Path | None = None) -> Path:
        chosen, folder = settings("figures=false", *overrides), tmp_path / name
        if chosen.trainer.strategy is None:
            training.train(chosen, folder, checkpoint)
            return folder
        port, size, failures = free_port(), chosen.trainer.ranks, FORK.SimpleQueue()

        def rank(number: int) -> None:
            os.environ.update(torchrun(number, port, size), OMP_NUM_THREADS="1")
            try:
                training.train(chosen, folder, checkpoint)
            except Exception as error:
                failures.put(error)
                raise

        processes = [FORK.Process(target=rank, args=(number,)) for number in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
            process.kill()
        if not failures.empty():
            raise failures.get()
        assert not any(process.exitcode for process in processes)
        return folder

    return trained


def assert_alike(left: Path, right: Path) -> None:
    """Weights within 1e-5, and the metrics of every epoch and of the test."""
    for name, value in weights(left).items():
        torch.testing.assert_close(value, weights(right)[name], rtol=0, atol=1e-5)
    for mine, others in zip(rows(left), rows(right), strict=True):
        for name in mine.keys() - {"seconds", "images_per_second"}:
            assert mine[name] == pytest.approx(others[name], rel=1e-5), name
    for task, scores in _tested(left).items():
        assert scores == pytest.approx(_tested(right)[task], rel=1e-5)


def _tested(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())["test"]["model"]


@pytest.mark.parametrize(
    "noise",
    [
        *("gaussian", "gaussian_range"),
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("masking", "salt_and_pepper")),
    ],
)
def test_two_ranks_are_one_process(run: Run, noise: str) -> None:
    assert_alike(run("two", f"noise={noise}", *UNEVEN, *TWO), run("one", f"noise={noise}", *UNEVEN))


def test_a_network_that_estimates_sigma_does_so_alike_on_two_ranks(run: Run) -> None:
    changes = ("noise=gaussian_range", "network=sigma_aware", "optim=adam_onecycle", *UNEVEN)
    assert_alike(run("two", *changes, *TWO), run("one", *changes))


def test_patches_and_the_sigma_that_a_network_is_told_are_alike_on_two_ranks(run: Run, photographs: Path) -> None:
    changes = ["data=patches", f"data.root={photographs}", "data.patch=12", "data.patches_per_epoch=60", *UNEVEN]
    changes += ["data.val_size=2", "network=residual", "noise=gaussian_range", "loss=mse"]
    assert_alike(run("two", *changes, *TWO), run("one", *changes))


def test_three_ranks_are_one_process_with_a_schedule_and_a_validation_smaller_than_the_ranks(run: Run) -> None:
    changes = ("optim=adam_onecycle", "data.val_size=2", "batch_size=8")
    three, one = run("three", *changes, *THREE), run("one", *changes)
    assert_alike(three, one)
    assert rows(three)[0]["val/denoising/bce"] == pytest.approx(rows(one)[0]["val/denoising/bce"], rel=1e-6)


@pytest.mark.parametrize(("images", "ranks"), [(32, 2), (32, 3), (1, 2), (2, 5), (7, 7)])
def test_the_shares_of_a_batch_are_the_batch_in_its_order_and_differ_by_one_image_at_most(
    images: int, ranks: int
) -> None:
    batch = torch.arange(images)
    shares = [share(batch, Rank(number, ranks)) for number in range(ranks)]
    assert torch.equal(torch.cat(shares), batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_all_ranks_end_with_the_very_same_weights(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(model: ManySteps) -> None:
        torch.save(model.state_dict(), tmp_path / f"{os.environ['RANK']}.pt")

    monkeypatch.setattr(ManySteps, "on_fit_end", note)
    run("three", *UNEVEN, *THREE)
    first, *others = (torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(3))
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_one_rank_writes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    replacing = files.replacing

    def noting(path: Path) -> Any:
        with (tmp_path / "writers").open("a") as file:
            file.write(f"{os.environ['RANK']} {path.name}\n")
        return replacing(path)

    for module in (files, __import__("dae_lightning.model.checkpoint", fromlist=["checkpoint"])):
        monkeypatch.setattr(module, "replacing", noting)
    two = run("two", *TWO, "trainer.enable_progress_bar=true")
    written = (tmp_path / "writers").read_text().splitlines()
    assert {line.split()[0] for line in written} == {"0"}
    assert {"0 metrics.csv", "0 results.json", "0 last.ckpt", "0 best.ckpt"} <= set(written)
    assert sorted(path.name for path in two.rglob("*") if path.is_file()) == [
        *("best.ckpt", "last.ckpt", "metrics.csv", "previous.ckpt", "results.json"),
    ]
    said = capfd.readouterr()
    assert said.out.count("on 2 ranks, the first on cpu") == said.out.count("mean image") == 1
    assert said.err.count("epoch 2/2") == 1


@pytest.mark.parametrize(("begun", "ended"), [(TWO, ()), ((), TWO)])
def test_a_run_goes_on_with_another_number_of_ranks(run: Run, begun: tuple[str, ...], ended: tuple[str, ...]) -> None:
    longer = "trainer.max_epochs=3"
    last = run("run", *UNEVEN, *begun) / "checkpoints" / "last.ckpt"
    assert_alike(run("run", *UNEVEN, *ended, longer, checkpoint=last), run("one", *UNEVEN, longer))


def test_two_ranks_give_one_result_bit_by_bit(run: Run) -> None:
    assert differing_bits(outcome(run("first", *TWO)), outcome(run("second", *TWO))) == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.devices=2"], "trainer.devices=2: one process trains on one; trainer=ddp starts more"),
        (["+trainer.num_nodes=2"], "trainer.num_nodes=2: only trainer=ddp trains on several machines"),
        ([*TWO, "trainer.devices=[1]"], r"trainer.devices=\[1\]: trainer=ddp takes how many, and not which"),
        ([*TWO, "batch_size=1"], "batch_size=1: is shared by all 2 processes of trainer=ddp, an image each at least"),
        (["trainer=ddp", "trainer.num_nodes=3", "batch_size=5"], "batch_size=5: is shared by all 6 processes"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(settings: Settings, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(*overrides)


TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("environment", "overrides", "message"),
    [
        ({}, ["trainer=ddp", "trainer.num_nodes=2"], "trainer.num_nodes=2: start it under torchrun or srun"),
        (TORCHRUN, [], "torchrun started 4 processes: to train one model together they need trainer=ddp"),
        (TORCHRUN, TWO, "devices=2 trainer.num_nodes=1: that makes 2 processes, but 4 were started"),
        (SRUN, TWO, "devices=2 trainer.num_nodes=1: that makes 2 processes, but 4 were started"),
    ],
)
def test_a_start_that_does_not_fit_the_settings_is_one_line(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    overrides: list[str],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        check_start(settings(*overrides).trainer)


def test_a_sweep_under_torchrun_is_refused_before_any_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="-m: one process starts the jobs; leave out torchrun"):
        check_sweep(["-m", "seed=0,1"])


@pytest.mark.parametrize("override", ["trainer=ddp", "trainer=cpu,ddp", "+trainer.strategy=ddp"])
def test_a_sweep_whose_jobs_would_start_ranks_is_refused_before_any_job(override: str) -> None:
    with pytest.raises(ConfigError, match=f"{re.escape(override)}: trains one model in several processes; leave out"):
        check_sweep(["-m", "seed=0,1", override])


def test_ranks_are_not_started_by_the_function_that_trains(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="start them with dae-train, torchrun or srun"):
        training.train(settings(*TWO), tmp_path)


def test_tasks_of_srun_that_train_a_model_each_are_left_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    assert check_start(settings().trainer) == 0


def test_ranks_that_do_not_start_alike_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    make = training.make_model

    def other(settings: Any, shape: Any) -> ManySteps:
        model = make(settings, shape)
        model.network.decoder.bias.data += int(os.environ["RANK"])
        return model

    monkeypatch.setattr(training, "make_model", other)
    with pytest.raises(TrainingError, match="the ranks do not start from the same images and weights"):
        run("run", *TWO)
