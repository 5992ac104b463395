"""A search: what it tries, what of it survives a kill, what Optuna is told, and what it answers."""

import csv
import json
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from dae_lightning.errors import ConfigError, DivergenceError
from dae_lightning.kinds import monitored
from dae_lightning.sweeps import pruning, search_figure  # noqa: F401 - before the processes that need them fork
from dae_lightning.sweeps.answer import answer
from dae_lightning.sweeps.search_figure import ABOVE
from dae_lightning.sweeps.space import read_space
from dae_lightning.sweeps.study import JOURNAL, open_storage, open_study
from dae_lightning.sweeps.summary import progress, summarize, table
from dae_lightning.sweeps.sweep import read_sweep
from dae_lightning.training import run as training
from dae_lightning.training.many_steps import FusedAdam
from tests.faults.processes import Training, before, small
from tests.test_documentation import undescribed

SEARCH = ("-m", "hydra/sweeper=search", "hydra.sweep.subdir=${latent}_${optim.lr}_${seed}")
RATE = "optim.lr=tag(log, interval(1e-5, 1e-1))"
LATENT = "latent=int(interval(2,40))"
VALUE = monitored()  # by which trials are compared
SIZES = "latent=int(interval(2,100000))"  # so many that none is drawn twice; for what is not trained


def search(
    cwd: Path, idx_root: Path, *arguments: str, prepare: Callable[[], object] = lambda: None, name: str = "sweep"
) -> Training:
    """A search in `cwd`/sweep; its status has yet to be asked for."""
    given = [argument for argument in small(idx_root, f"hydra.sweep.dir={cwd / name}") if "latent" not in argument]
    axes = () if any("interval" in argument or "latent=" in argument for argument in arguments) else (LATENT,)
    return Training(cwd, *SEARCH, *given, *axes, *arguments, prepare=prepare)


def done(*arguments: Any, status: int = 0, **named: Any) -> str:
    """Run a search to its end; what it said."""
    training = search(*arguments, **named)
    assert training.status() == status, training.said
    return training.said


def trials(cwd: Path, name: str = "sweep") -> list[FrozenTrial]:
    return open_study(open_storage(cwd / name)).get_trials()


def outcomes(cwd: Path, name: str = "sweep") -> list[tuple[dict[str, Any], TrialState, float | None, dict[int, float]]]:
    """What the study knows of each trial."""
    return [(one.params, one.state, one.value, one.intermediate_values) for one in trials(cwd, name)]


def jobs(cwd: Path) -> dict[int, dict[str, Any]]:
    """The jobs' records by the trials that they answer."""
    records = [json.loads(path.read_text()) for path in (cwd / "sweep").glob("*/job.json")]
    return {number: record for record in records for number in record["trials"]}


def validated(folder: Path) -> list[float]:
    """The score of each epoch of a run."""
    with (folder / "metrics.csv").open() as file:
        return [float(row[VALUE]) for row in csv.DictReader(file)]


def judged_by(score: Callable[[Any], float]) -> Callable[[], None]:
    """In place of every training, a score."""

    def train(settings: Any, folder: Path, *rest: Any) -> float:
        with (folder.parent.parent / "trained.txt").open("a") as log:
            log.write(f"{settings.latent}\n")
        value = score(settings)
        scores = {task: {"bce": value, "psnr": 14.0, "ssim": 0.4} for task in ("reconstruction", "denoising")}
        test = {"model": scores, "mean_image": {"denoising": {"psnr": 11.0}}}
        (folder / "results.json").write_text(json.dumps({"test": test, "fit_seconds": 1.0}))
        return value

    return lambda: setattr(training, "train", train)


def trained(cwd: Path) -> list[int]:
    """The latent sizes that were trained so, one after the other."""
    return [int(line) for line in (cwd / "trained.txt").read_text().split()]


def test_a_search_minimises_the_held_out_score_and_ends_with_a_command_that_trains_the_best(
    tmp_path: Path, idx_root: Path
) -> None:
    said = done(tmp_path, idx_root, LATENT, RATE, "hydra.sweeper.trials=4", "hydra.sweeper.pruner=none")
    sweep = tmp_path / "sweep"
    values = {}
    for folder in sweep.glob("*/"):
        scores = validated(folder)
        record = json.loads((folder / "job.json").read_text())
        values[record["trials"][0]] = min(scores)
        assert trials(tmp_path)[record["trials"][0]].intermediate_values == dict(enumerate(scores, 1))
    assert {trial.number: trial.value for trial in trials(tmp_path)} == pytest.approx(values)
    best = min(values, key=lambda number: values[number])
    assert f"best: trial {best}, {VALUE} {values[best]:.4f}\n" in said
    line = next(line for line in said.splitlines() if line.startswith("  python train.py "))
    again = Training(tmp_path, *shlex.split(line)[2:], f"hydra.run.dir={tmp_path / 'again'}")
    assert again.status() == 0, again.said
    assert min(validated(tmp_path / "again")) == values[best]
    with (sweep / "summary.csv").open() as file:
        rows = {int(row["trial"]): row for row in csv.DictReader(file)}
    assert {number: float(row[VALUE]) for number, row in rows.items()} == pytest.approx(values)
    assert {"latent", "optim.lr", "status", "seconds", "test/denoising/psnr"} <= rows[0].keys()
    assert (sweep / "search.png").stat().st_size > 10_000
    assert "importance of the keys: " in said
    assert "trust: one seed each" in said
    assert not (sweep / "gallery.png").exists()


@pytest.mark.slow
def test_the_same_search_twice_gives_the_same_trials_and_another_seed_gives_others(
    tmp_path: Path, idx_root: Path
) -> None:
    arguments = (LATENT, RATE, "hydra.sweeper.trials=8", "trainer.max_epochs=3")
    running = [search(tmp_path / name, idx_root, *arguments) for name in "ab"]
    running.append(search(tmp_path / "c", idx_root, *arguments, "hydra.sweeper.seed=1"))
    for each in running:
        assert each.status() == 0, each.said
    assert outcomes(tmp_path / "a") == outcomes(tmp_path / "b")
    assert not [one for one in outcomes(tmp_path / "c") if one in outcomes(tmp_path / "a")]


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_trials_of_an_untouched_one(tmp_path: Path, idx_root: Path) -> None:
    arguments = (LATENT, RATE, "hydra.sweeper.trials=7", "trainer.max_epochs=3", "checkpoint.every_n_steps=2")

    def at_the_third() -> None:
        train = training.train

        def killed(settings: Any, folder: Path, checkpoint: Path | None, *rest: Any) -> float:
            print(f"{folder.name} from {checkpoint and checkpoint.name}")
            if checkpoint is None and len(list(folder.parent.glob("*/results.json"))) == 2:
                before(FusedAdam, "update", lambda: os.kill(os.getppid(), signal.SIGKILL), 20)
            return train(settings, folder, checkpoint, *rest)

        training.train = killed

    killed = search(tmp_path, idx_root, *arguments, prepare=at_the_third)
    assert killed.status() == -signal.SIGKILL, killed.said
    assert [trial.state for trial in trials(tmp_path)] == [TrialState.COMPLETE] * 2 + [TrialState.RUNNING]
    said = done(tmp_path, idx_root, *arguments)
    assert len(trials(tmp_path)) == 7
    assert len(list((tmp_path / "sweep").glob("*/job.json"))) == 7
    assert "skipped" not in said
    done(tmp_path / "whole", idx_root, *arguments)
    assert outcomes(tmp_path) == outcomes(tmp_path / "whole")


@pytest.mark.slow
def test_what_a_signal_stops_still_runs_for_optuna_and_more_trials_are_only_added(
    tmp_path: Path, idx_root: Path
) -> None:
    def stopping(settings: Any) -> float:
        if len(trained(tmp_path)) == 3 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            os.kill(os.getppid(), signal.SIGTERM)
            signal.pause()
        return settings.latent / 100

    arranged = {"prepare": judged_by(stopping)}
    stopped = search(tmp_path, idx_root, SIZES, "hydra.sweeper.trials=6", **arranged)
    assert stopped.status() == 143, stopped.said
    assert stopped.said.endswith(f"continue with the same command and hydra.sweep.dir={tmp_path / 'sweep'}\n")
    assert [trial.state for trial in trials(tmp_path)] == [TrialState.COMPLETE] * 2 + [TrialState.RUNNING]
    done(tmp_path, idx_root, SIZES, "hydra.sweeper.trials=6", **arranged)
    assert [trial.state for trial in trials(tmp_path)] == [TrialState.COMPLETE] * 6
    first = outcomes(tmp_path)
    assert "[sweep] 6 done, 0 left of 6\n" in done(tmp_path, idx_root, SIZES, "hydra.sweeper.trials=6", **arranged)
    said = done(tmp_path, idx_root, SIZES, "hydra.sweeper.trials=8", **arranged)
    assert outcomes(tmp_path)[:6] == first
    assert len(trials(tmp_path)) == 8
    assert "[sweep] 8 done, 0 left of 8\n" in said
    latents = trained(tmp_path)
    latents.remove(trials(tmp_path)[2].params["latent"])  # the one that was stopped began twice
    assert sorted(latents) == sorted(trial.params["latent"] for trial in trials(tmp_path))


@pytest.mark.slow
def test_a_hopeless_trial_is_pruned_keeps_its_checkpoint_and_goes_on_if_asked(tmp_path: Path, idx_root: Path) -> None:
    arguments = (LATENT, RATE, "hydra.sweeper.trials=12", "trainer.max_epochs=4")
    said = done(tmp_path, idx_root, *arguments)
    pruned = [trial for trial in trials(tmp_path) if trial.state == TrialState.PRUNED]
    assert pruned
    complete = [trial for trial in trials(tmp_path) if trial.state == TrialState.COMPLETE]
    assert len(pruned) + len(complete) == 12
    assert f"[sweep] {len(complete)} done, {len(pruned)} pruned, 0 left of 12\n" in said
    for trial in pruned:
        reached = max(trial.intermediate_values)
        assert 2 <= reached < 4
        others = [one.intermediate_values[reached] for one in complete if one.number < trial.number]
        assert len(others) >= 5
        assert min(trial.intermediate_values.values()) > sorted(others)[(len(others) - 1) // 2]
        assert jobs(tmp_path)[trial.number]["error"] == f"hopeless after epoch {reached} of 4"
    folder = next(path.parent for path in (tmp_path / "sweep").glob("*/job.json") if '"pruned"' in path.read_text())
    assert not (folder / "results.json").exists()
    resumed = Training(tmp_path, f"resume={folder}")
    assert resumed.status() == 0, resumed.said
    assert json.loads((folder / "results.json").read_text())["epochs"] == 4
    done(tmp_path / "whole", idx_root, *arguments, "hydra.sweeper.pruner=none")
    assert all(trial.state == TrialState.COMPLETE for trial in trials(tmp_path / "whole"))


def test_each_end_of_a_job_is_told_as_what_it_is_and_only_failures_are_run_again(
    tmp_path: Path, idx_root: Path
) -> None:
    def meeting(settings: Any) -> float:
        if (tmp_path / "mended").exists() or settings.latent == 4:
            return settings.latent / 10
        if settings.latent == 5:
            raise DivergenceError("the loss is nan")
        if settings.latent == 6:
            raise RuntimeError("a bug")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    arguments = ("latent=4,5,6,7", "hydra.sweeper.trials=24")
    said = done(tmp_path, idx_root, *arguments, prepare=judged_by(meeting), status=1)
    told = {(trial.params["latent"], trial.state, trial.value) for trial in trials(tmp_path)}
    assert told == {
        *(("4", TrialState.COMPLETE, 0.4), ("5", TrialState.COMPLETE, math.inf)),
        *(("6", TrialState.FAIL, None), ("7", TrialState.RUNNING, None)),
    }
    assert "[sweep] 1 done, 1 diverged, 1 failed, 1 interrupted" in said
    assert said.endswith("error: 2 of the jobs failed\n")
    assert trained(tmp_path).count(4) == trained(tmp_path).count(5) == 1  # a trial that repeats another trains nothing
    assert json.loads((tmp_path / "sweep" / "5_0.001_0" / "job.json").read_text())["status"] == "failed"

    (tmp_path / "mended").touch()
    failed = [trial.number for trial in trials(tmp_path) if trial.state == TrialState.FAIL]
    (tmp_path / "trained.txt").unlink()
    said = done(tmp_path, idx_root, *arguments, prepare=judged_by(meeting))
    assert set(trained(tmp_path)) == {6, 7}
    after = trials(tmp_path)
    assert [trial.params["latent"] for trial in after if "again" in trial.user_attrs] == ["6"]
    assert sum(trial.state == TrialState.COMPLETE for trial in after) == 24
    assert [trial.number for trial in after if trial.state != TrialState.COMPLETE] == failed


REFUSED = [
    (["loss=mse", "data.val_size=0"], "data.val_size=0: a search compares val/denoising/mse, for which images must be"),
    (["loss=bce,mse"], "loss=bce,mse: must be the same in all trials"),
    (["data.val_size=0"], "data.val_size=0: a search compares val/denoising/bce, for which images must be held out"),
    (["experiment=notebook_sigma6"], "data.val_size=0: "),
    (["data.val_size=0,9"], "data.val_size=0,9: must be the same in all trials"),
    (["noise.sigma=interval(1,2)"], "noise.sigma=interval(1,2): must be the same in all trials"),
    (
        ["seed=0,1"],
        "seed=0,1: must be the same in all trials, which are compared by their score; hydra.sweeper.confirm",
    ),
    (["latent=4"], "hydra/sweeper=search: nothing to search over"),
    (["latent=int(interval(-3,9))"], "latent=-3: must be at least 1"),
    (["latent=interval(9,3)"], "latent=interval(9,3): `low <= high` must hold"),
    (["latent=tag(lgo,interval(3,9))"], "latent=tag(lgo,interval(3,9)): no such tag as lgo; known: int, log"),
    (["optim=adam,adm"], "optim=adm: no such choice; did you mean adam?"),
    (["hydra.sweeper.trials=0"], "hydra.sweeper.trials=0: must be at least 1"),
    (["hydra.sweeper.pruner=mean"], "hydra.sweeper.pruner=mean: must be one of median, none"),
]


@pytest.mark.parametrize(
    ("arguments", "reason"), REFUSED, ids=lambda value: value[0] if isinstance(value, list) else ""
)
def test_a_mistake_is_one_line_before_anything_is_trained(
    tmp_path: Path, idx_root: Path, arguments: list[str], reason: str
) -> None:
    said = done(tmp_path, idx_root, *arguments, status=1)
    assert said.startswith(f"error: {reason}")
    assert said.count("\n") == 1
    assert not (tmp_path / "sweep").exists()


def test_a_trial_without_validation_is_a_failure_and_its_training_loss_counts_for_nothing(
    tmp_path: Path, idx_root: Path
) -> None:
    arguments = (LATENT, "hydra.sweeper.trials=1", "+trainer.limit_val_batches=0")
    said = done(tmp_path, idx_root, *arguments, status=1)
    assert f"no epoch has a {VALUE}" in said
    assert [trial.state for trial in trials(tmp_path)] == [TrialState.FAIL]


def test_a_folder_of_another_search_is_refused(tmp_path: Path, idx_root: Path) -> None:
    arranged = {"prepare": judged_by(lambda settings: settings.latent / 100)}
    done(tmp_path, idx_root, SIZES, "hydra.sweeper.trials=2", **arranged)
    for changed, key in ((["noise.sigma=3"], "noise.sigma"), (["latent=int(interval(2,41))"], "latent")):
        said = done(tmp_path, idx_root, SIZES, *changed, "hydra.sweeper.trials=3", status=1, **arranged)
        journal = tmp_path / "sweep" / JOURNAL
        assert (
            said == f"error: {journal}: holds a search with another {key}; another hydra.sweep.dir starts a new one\n"
        )
    done(tmp_path, idx_root, SIZES, "hydra.sweeper.trials=3", "figures=true", **arranged)  # which changes no result


def test_half_a_record_of_a_full_disk_is_dropped(tmp_path: Path) -> None:
    study = open_study(open_storage(tmp_path))
    study.tell(study.ask(), 0.5)
    with (tmp_path / JOURNAL).open("a") as journal:
        journal.write('{"op_code":4,"wor')
    again = open_study(open_storage(tmp_path))
    again.tell(again.ask(), 0.25)
    assert [trial.value for trial in trials(tmp_path, ".")] == [0.5, 0.25]


def test_a_grid_has_no_intervals_and_a_search_needs_its_extra(tmp_path: Path) -> None:
    grid = Training(tmp_path, "-m", LATENT)
    assert grid.status() == 1
    assert grid.said == f"error: {LATENT}: a grid has no intervals; hydra/sweeper=search searches them\n"

    def nothing_is_installed() -> None:
        sys.path[:] = []
        sys.modules.pop("optuna", None)

    bare = Training(tmp_path, "-m", "hydra/sweeper=search", LATENT, prepare=nothing_is_installed)
    assert bare.status() == 1
    needed = "optuna is not installed; pip install 'dae_lightning[search]'"
    assert bare.said == f"error: hydra/sweeper=search: {needed}\n"


@pytest.mark.parametrize(
    ("said", "drawn", "corners"),
    [
        ("a=int(interval(2,9))", {"a": 5}, ["a=2", "a=9"]),
        ("a=tag(log,interval(1e-4,1e-1))", {"a": 0.0123456789}, ["a=0.0001", "a=0.1"]),
        ("a=range(10,1,-3)", {"a": 7}, ["a=4", "a=10"]),
        ("a=range(0.1,1,0.2)", {"a": 0.3}, ["a=0.1", "a=0.9"]),
        ("+a=[1,2],[3]", {"+a": "[3]"}, ["+a=[1,2]", "+a=[3]"]),
        ("a='x y',null", {"a": "'x y'"}, ["a='x y'", "a=null"]),
    ],
)
def test_an_axis_is_what_hydras_grammar_says(said: str, drawn: dict[str, Any], corners: list[str]) -> None:
    space = read_space(["b=1", said])
    assert [job for _, job in space.corners()] == corners
    (axis,), (value,) = space.axes.values(), drawn.values()
    assert axis._contains(axis.to_internal_repr(value))
    (key,) = drawn
    written = "0.0123457" if value == 0.0123456789 else str(value)
    assert space.overrides(drawn) == ["b=1", f"{key}={written}"]


def test_the_later_of_two_overrides_counts() -> None:
    space = read_space(["a=1,2", "b=1", "a=3", "b=4,5"])
    assert (space.fixed, list(space.axes)) == ({"a": "3"}, ["b"])
    with pytest.raises(ConfigError, match="nothing to search over"):
        read_space(["a=1,2", "a=3"])


@pytest.mark.slow
def test_the_best_settings_are_confirmed_with_two_more_seeds_and_the_luckiest_loses(
    tmp_path: Path, idx_root: Path
) -> None:
    """The latent size 4 is the best of seed 0 alone."""
    scores = {4: (0.30, 0.39, 0.39), 5: (0.31, 0.33, 0.32), 6: (0.33, 0.33, 0.33)}

    def lucky(settings: Any) -> float:
        return scores.get(settings.latent, (0.5,))[settings.seed]

    arguments = ("latent=4,5,6,7", "hydra.sweeper.trials=30", "hydra.sweeper.confirm=3")
    said = done(tmp_path, idx_root, *arguments, prepare=judged_by(lucky))
    assert sorted(trained(tmp_path)) == [4, 4, 4, 5, 5, 5, 6, 6, 6, 7]
    best = next(number for number, job in jobs(tmp_path).items() if "latent=5" in job["overrides"])
    assert f"best: trial {best}, {VALUE} 0.3200, mean over 3 seeds\n" in said
    command = next(line for line in said.splitlines() if line.startswith("  python train.py "))
    assert "latent=5" in command
    assert "seed=" not in command
    # variances over seeds: 0.0027, 0.0001, 0; their mean is 0.00093, its root 0.031
    assert "another seed changes a score by 0.031 (standard deviation, 6 degrees of freedom)" in said
    assert "the best mean is 0.01 ahead of the next, standard error 0.025: noise could explain it" in said
    assert "3 of 4 finished trials are within two standard deviations of the best one" in said
    assert "[sweep] 10 done, 0 left of 10\n" in said
    settings = json.loads((tmp_path / "sweep" / "summary.json").read_text())["settings"]
    of_best = next(setting for setting in settings if setting["overrides"]["latent"] == 5)
    assert of_best["test"][VALUE] == {"mean": pytest.approx(0.32), "std": pytest.approx(0.01), "seeds": 3}
    again = done(tmp_path, idx_root, *arguments, prepare=judged_by(lucky))
    assert len(trained(tmp_path)) == 10
    assert "mean over 3 seeds\n" in again


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """The folder of a search for four trials: one finished, one pruned, one diverged, one to come."""
    sweeper = {"_target_": "hydra_plugins.dae_search.Search", "trials": 4, "confirm": 0}
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": {"sweeper": sweeper}}))
    for number, (status, value) in enumerate((("finished", 0.31), ("pruned", 0.4), ("failed", None))):
        folder = tmp_path / str(number)
        folder.mkdir()
        record = {"overrides": [f"latent={number + 4}"], "config": None, "status": status, "error": "reason"}
        record |= {"value": value, "started": 1.0, "seconds": 2.0, "trials": [number], "diverged": status == "failed"}
        (folder / "job.json").write_text(json.dumps(record))
    scores = {task: {"bce": 0.36, "psnr": 14.0, "ssim": 0.4} for task in ("reconstruction", "denoising")}
    results = {"test": {"model": scores, "mean_image": {"denoising": {"psnr": 11.0}}}, "fit_seconds": 2}
    (tmp_path / "0" / "results.json").write_text(json.dumps(results))
    return tmp_path


def test_a_search_is_summarised_while_it_runs(by_hand: Path) -> None:
    sweep = read_sweep(by_hand)
    assert progress(sweep, False, 0.0) == "[sweep] 1 done, 1 pruned, 1 diverged, 1 left of 4"
    assert sweep.failures == 1  # the one that has not begun
    assert table(sweep).splitlines() == [
        "latent  seeds  val BCE   time  status",
        "     4      1   0.3100  2.0 s  1 finished",
    ]
    assert f"best: trial 0, {VALUE} 0.3100\n" in answer(sweep)
    assert "these trials do not tell" in answer(sweep)


def test_a_search_with_another_loss_says_so(by_hand: Path) -> None:
    for path in by_hand.glob("*/job.json"):
        record = json.loads(path.read_text())
        changed = {"overrides": [*record["overrides"], "loss=mse"], "value": (record["value"] or 0) / 100}
        path.write_text(json.dumps(record | changed))
    sweep = read_sweep(by_hand)
    assert table(sweep).splitlines()[0] == "latent  seeds   val MSE   time  status"
    assert "best: trial 0, val/denoising/mse 0.003100\n" in answer(sweep)


def test_every_file_and_column_of_a_search_is_described(by_hand: Path) -> None:
    study = open_study(open_storage(by_hand))
    study.tell(study.ask(), 0.31)
    summarize(by_hand)
    jobs = {f"{number}/{name}" for number in range(3) for name in ("job.json", "results.json")}
    assert set(undescribed(by_hand)) <= {"latent", *jobs}


def test_the_picture_has_the_trials_in_order_and_a_slice_for_each_key(by_hand: Path) -> None:
    history, latent = search_figure.search_figure(read_sweep(by_hand)).axes
    drawn = {line.get_label(): line for line in history.lines}
    assert list(drawn["finished"].get_xdata()) == [0]
    assert list(drawn["best so far"].get_ydata()) == [0.31, 0.31, 0.31]
    assert list(drawn[ABOVE].get_xdata()) == [1, 2]  # 0.4 is far above a single score of 0.31
    assert max(drawn[ABOVE].get_ydata()) < history.get_ylim()[1]
    assert latent.get_xlabel() == "latent"
    assert [label.get_text() for label in latent.get_xticklabels()] == ["4", "5", "6"]


def test_a_trial_that_was_killed_while_it_was_asked_for_is_replaced(tmp_path: Path, idx_root: Path) -> None:
    arranged = {"prepare": judged_by(lambda settings: settings.latent / 100)}
    done(tmp_path, idx_root, SIZES, "hydra.sweeper.trials=2", **arranged)
    open_study(open_storage(tmp_path / "sweep")).ask()
    said = done(tmp_path, idx_root, SIZES, "hydra.sweeper.trials=4", **arranged)
    assert [trial.state for trial in trials(tmp_path)].count(TrialState.COMPLETE) == 4
    assert len(trials(tmp_path)) == 5
    assert "[sweep] 4 done, 0 left of 4\n" in said
