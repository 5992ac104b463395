"""A sweep's answer: what is read of its folder, what the table, the files and the pictures say of it."""

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure

from dae_lightning.errors import SweepError
from dae_lightning.locks import sole_use
from dae_lightning.sweeps.figures import curves_figure, draw, heatmap_figure
from dae_lightning.sweeps.gallery import spread
from dae_lightning.sweeps.jobs import duration, plain
from dae_lightning.sweeps.summary import progress, summarize, table, write_summary
from dae_lightning.sweeps.sweep import read_sweep
from tests.faults.processes import Training, small

FLOOR = 11.0  # PSNR of the mean image
Config = dict[str, Any]


def write_job(
    sweep: Path,
    *overrides: str,
    psnr: float | None = 14.0,
    status: str = "finished",
    error: str | None = None,
    config: Config | None = None,
    started: float = 1000.0,
    seconds: float = 8.0,
) -> Path:
    """A job's folder as a multirun leaves it."""
    folder = sweep / ",".join(overrides)
    folder.mkdir(parents=True)
    record = {"overrides": list(overrides), "config": config, "status": status, "error": error, "started": started}
    (folder / "job.json").write_text(json.dumps(record | {"seconds": None if status == "running" else seconds}))
    if status == "finished":
        scores = {task: {"bce": 0.36, "psnr": psnr, "ssim": 0.4} for task in ("reconstruction", "denoising")}
        floor = {"denoising": {"psnr": FLOOR}}
        (folder / "results.json").write_text(
            json.dumps({"test": {"model": scores, "mean_image": floor}, "fit_seconds": 5})
        )
    return folder


def write_plan(sweep: Path, *task: str, began: float = 1000.0) -> None:
    """What Hydra writes in front of the first job."""
    sweep.mkdir(parents=True, exist_ok=True)
    overrides = {"task": list(task), "hydra": ["hydra.mode=MULTIRUN"]}
    plan = {"hydra": {"sweeper": {"params": None}, "overrides": overrides}}
    (sweep / "multirun.yaml").write_text(yaml.safe_dump(plan))
    os.utime(sweep / "multirun.yaml", (began, began))


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """sigma 2 and 10, latent 16 and 64, two seeds; one job failed, one setting failed whole."""
    sweep = tmp_path / "sweep"
    write_plan(sweep, "latent=16,64", "noise.sigma=2,10", "seed=0,1")
    for latent in (16, 64):
        for sigma in (2, 10):
            for seed in (0, 1):
                failed = (latent, sigma) == (64, 10) or (latent, sigma, seed) == (16, 10, 1)
                write_job(
                    sweep,
                    *(f"latent={latent}", f"noise.sigma={sigma}", f"seed={seed}"),
                    psnr=16 - sigma / 2 + latent / 64 + seed / 2,
                    status="failed" if failed else "finished",
                    error="the loss is not finite" if failed else None,
                )
    return sweep


def test_a_setting_has_mean_and_deviation_over_its_seeds_in_the_order_of_the_grid(grid: Path) -> None:
    sweep = read_sweep(grid)
    assert sweep.axes == {"latent": ["16", "64"], "noise.sigma": ["2", "10"]}
    assert [setting.values for setting in sweep.settings] == [("16", "2"), ("16", "10"), ("64", "2"), ("64", "10")]
    first, single, _, none = sweep.settings
    assert first.mean("test/denoising/psnr") == pytest.approx((15.25 + 15.75) / 2)
    assert first.deviation("test/denoising/psnr") == pytest.approx(0.5 / 2**0.5)
    assert first.mean("test/denoising/psnr_gain") == pytest.approx(15.5 - FLOOR)
    assert (single.mean("test/denoising/psnr"), single.deviation("test/denoising/psnr")) == (11.25, None)
    assert none.mean("test/denoising/psnr") is None
    assert [setting.count() for setting in sweep.settings] == [
        *("2 finished", "1 finished, 1 failed", "2 finished", "2 failed")
    ]


def test_the_table_fits_the_terminal_and_names_the_failures(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = read_sweep(grid)
    monkeypatch.setenv("COLUMNS", "100")
    lines = table(sweep).splitlines()
    assert lines[0].split() == ["latent", "noise.sigma", "seeds", "denoising:", "PSNR", "gain", "time", "status"]
    assert lines[1].split() == ["16", "2", "2", "15.50", "+-0.35", "4.50", "+-0.35", "8.0", "s", "2", "finished"]
    assert lines[2].split() == ["16", "10", "1", "11.25", "0.25", "8.0", "s", "1", "finished,", "1", "failed"]
    assert lines[4].split() == ["64", "10", "0", "-", "-", "-", "2", "failed"]
    assert max(map(len, lines[:5])) <= 100
    assert lines[5] == "failed: latent=16 noise.sigma=10 seed=1: the loss is not finite"
    assert len(lines) == 8
    assert table(sweep, reasons=False).splitlines() == lines[:5]
    monkeypatch.setenv("COLUMNS", "300")
    assert table(sweep).splitlines()[0].split().count("SSIM") == 2


def test_the_files_have_a_row_per_job_and_the_same_bytes_each_time(grid: Path) -> None:
    write_summary(read_sweep(grid))
    written = [(grid / name).read_bytes() for name in ("summary.csv", "summary.json")]
    rows = list(csv.DictReader(written[0].decode().splitlines()))
    assert len(rows) == 8
    assert [rows[0][key] for key in ("job", "latent", "noise.sigma", "seed", "status", "test/denoising/psnr")] == [
        *("latent=16,noise.sigma=10,seed=0", "16", "10", "0", "finished", "11.25")
    ]
    assert [rows[1][key] for key in ("status", "test/denoising/psnr", "seconds", "error")] == [
        *("failed", "", "8.0", "the loss is not finite")
    ]
    facts = json.loads(written[1])
    assert facts["settings"][0]["overrides"] == {"latent": 16, "noise.sigma": 2}
    assert facts["settings"][0]["test"]["test/denoising/psnr"]["seeds"] == 2
    assert facts["settings"][0]["test"]["test/denoising/psnr"]["std"] == pytest.approx(0.5 / 2**0.5)
    assert facts["settings"][3]["test"]["test/denoising/psnr"] == {"mean": None, "std": None, "seeds": 0}
    assert facts["jobs"][1]["seed"] == 1
    write_summary(read_sweep(grid))
    assert written == [(grid / name).read_bytes() for name in ("summary.csv", "summary.json")]


def test_progress_counts_what_is_there_and_reckons_the_end(tmp_path: Path) -> None:
    write_plan(tmp_path, "noise.sigma=range(0,12)", began=1000)
    for sigma in range(5):
        write_job(tmp_path, f"noise.sigma={sigma}", started=1000 + sigma, seconds=1000)
    write_job(tmp_path, "noise.sigma=5", status="failed", started=1005)
    with (
        sole_use(write_job(tmp_path, "noise.sigma=6", status="running", started=7500)),
        sole_use(write_job(tmp_path, "noise.sigma=7", status="running", started=7500)),
    ):
        said = progress(read_sweep(tmp_path), True, now=1000 + 7000)
    # seven of the twelve, counting two halves, took 7,000 s
    end = datetime.fromtimestamp(1000 + 12000)
    assert said == f"[sweep] 5 done, 1 failed, 2 running, 4 left of 12; expected end {end:%H:%M}"
    # now both were killed: nobody holds their locks, though one has left its name
    (tmp_path / "noise.sigma=7" / ".lock.holder").write_text("process 1 on nowhere")
    assert progress(read_sweep(tmp_path), False, 8000) == "[sweep] 5 done, 1 failed, 2 interrupted, 4 left of 12"


def test_what_an_earlier_command_did_not_finish_is_left_once_more(tmp_path: Path) -> None:
    write_job(tmp_path, "latent=16", started=10)
    write_job(tmp_path, "latent=32", status="failed", started=20)
    write_job(tmp_path, "latent=64", status="running", started=30)
    write_plan(tmp_path, "latent=16,32,64,128", began=1000)
    assert progress(read_sweep(tmp_path), True, 1001) == "[sweep] 1 done, 3 left of 4"
    assert progress(read_sweep(tmp_path), False, 1001) == "[sweep] 1 done, 1 failed, 1 interrupted, 1 left of 4"


def test_a_grown_grid_is_one_whatever_its_commands_left_to_the_defaults(tmp_path: Path) -> None:
    config: Config = {
        "latent": 256,
        "noise": {"kind": "gaussian", "sigma": 2.0},
        "optim": {"kind": "adam", "lr": 0.001},
    }
    write_job(tmp_path, "noise.sigma=2", config=config)
    write_job(tmp_path, "noise.sigma=2.0", "latent=16", config=config | {"latent": 16})
    masked = config | {"noise": {"kind": "masking", "probability": 0.5}}
    write_job(tmp_path, "noise=masking", "latent=256", "optim.lr=1e-3", config=masked)
    write_plan(tmp_path, "noise=gaussian,masking", "latent=16,256")
    sweep = read_sweep(tmp_path)
    assert sweep.axes == {"noise": ["gaussian", "masking"], "latent": ["16", "256"], "noise.sigma": ["2", ""]}
    assert [setting.values for setting in sweep.settings] == [
        *(("gaussian", "16", "2"), ("gaussian", "256", "2"), ("masking", "256", ""))
    ]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((2, 2.0, "2", "2e0"), "2"),
        ((0.001, "1e-3"), "0.001"),
        (([0.9, 0.999], "[0.9,0.999]"), "[0.9,0.999]"),
        ((True, "true"), "true"),
        ((None, "null"), "null"),
        (("adam",), "adam"),
        (("nan",), "nan"),
        (("a b", "'a b'"), "a b"),
    ],
)
def test_a_value_is_the_same_however_it_is_written(values: tuple[object, ...], text: str) -> None:
    assert {plain(value) for value in values} == {text}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (8.14, "8.1 s"),
        (59.96, "1:00"),
        (245, "4:05"),
        (659.6, "11:00"),
        (3723, "1:02:03"),
        (36e3, "10:00:00"),
    ],
)
def test_a_time_is_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def damage_job(job: Path) -> None:
    (job / "job.json").write_text('{"overrides": ["latent=')


def miss_keys(job: Path) -> None:
    (job / "job.json").write_text("{}")


def damage_results(job: Path) -> None:
    (job / "results.json").write_text('{"test": {"model": {"denoising": {"psnr": "high"}}}}')


def miss_results(job: Path) -> None:
    (job / "results.json").unlink()


@pytest.mark.parametrize("damage", [damage_job, miss_keys, damage_results, miss_results])
def test_an_unreadable_job_is_named_and_the_others_count(grid: Path, damage: Callable[[Path], None]) -> None:
    damage(grid / "latent=64,noise.sigma=2,seed=1")
    sweep = read_sweep(grid)
    if "results" in damage.__name__:
        assert "unreadable: latent=64 noise.sigma=2 seed=1: results.json: " in table(sweep)
    else:  # what it was about is its folder's secret
        assert "unreadable: latent=64,noise.sigma=2,seed=1: job.json: " in table(sweep)
    assert sweep.settings[2].scores("test/denoising/psnr") == [16.0]
    write_summary(sweep)
    rows = list(csv.DictReader((grid / "summary.csv").read_text().splitlines()))
    assert [row["status"] for row in rows].count("unreadable") == 1


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_heat_map_writes_every_mean_and_hatches_what_is_missing(grid: Path) -> None:
    figure = heatmap_figure(read_sweep(grid))
    psnr, gain = figure.axes[:2]
    assert [text.get_text() for text in psnr.texts] == ["15.50", "±0.35", "11.25", "16.25", "±0.35", "failed"]
    assert [text.get_text() for text in gain.texts] == ["+4.50", "±0.35", "+0.25", "+5.25", "±0.35", "failed"]
    assert [label.get_text() for label in psnr.get_xticklabels()] == ["16", "64"]
    assert (psnr.get_xlabel(), psnr.get_ylabel()) == ("latent", "noise.sigma")
    assert sum(patch.get_hatch() is not None for patch in psnr.patches) == 1


def test_three_keys_are_small_multiples_and_names_are_categories(tmp_path: Path) -> None:
    for latent in (16, 64):
        for sigma in (1, 2):
            write_job(tmp_path, f"latent={latent}", f"noise.sigma={sigma}", "optim=adam", psnr=latent + sigma)
    write_job(tmp_path, "latent=64", "noise.sigma=2", "optim=adam_onecycle", psnr=10)
    figure = heatmap_figure(read_sweep(tmp_path))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["optim=adam", "optim=adam_onecycle"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["17.00", "18.00", "65.00", "66.00"]
    assert [text.get_text() for text in figure.axes[3].texts] == ["not run", "not run", "not run", "-1.00"]


def test_the_curves_have_an_axis_of_numbers_or_of_names(tmp_path: Path) -> None:
    for latent in (8, 64, 512):
        for seed in (0, 1):
            write_job(tmp_path / "latent", f"latent={latent}", f"seed={seed}", psnr=12 + seed)
    axes = curves_figure(read_sweep(tmp_path / "latent")).axes[0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "64", "512"]
    floor, denoising, *_ = axes.lines
    assert list(floor.get_ydata()) == pytest.approx([FLOOR] * 3)
    assert list(denoising.get_ydata()) == [12.5, 12.5, 12.5]
    write_job(tmp_path / "noise", "noise=salt_and_pepper")
    write_job(tmp_path / "noise", "noise=masking", psnr=None)  # of a perfect image
    axes = curves_figure(read_sweep(tmp_path / "noise")).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["masking", "salt_and_pepper"]
    assert [math.isfinite(dB) for dB in axes.lines[1].get_ydata()] == [False, True]


def test_labels_that_would_overlap_on_a_logarithmic_axis_are_left_out(tmp_path: Path) -> None:
    for latent in (2, 4, 1000, 1010, 1020, 1024):
        write_job(tmp_path, f"latent={latent}")
    figure = curves_figure(read_sweep(tmp_path))
    figure.draw_without_rendering()
    for axes in figure.axes:
        shown = [label for label in axes.get_xticklabels() if label.get_visible()]
        assert [label.get_text() for label in shown] == ["2", "4", "1000"]
        boxes = [label.get_window_extent() for label in shown]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
        assert len(axes.get_xticks()) == 6


def test_a_grown_grid_has_no_stale_picture_and_too_many_keys_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_job(tmp_path, "a=1", "b=1", "c=1", "d=1")
    write_job(tmp_path, "a=2", "b=1", "c=1", "d=1")
    draw(read_sweep(tmp_path))
    assert {path.name for path in tmp_path.glob("*.png")} == {"curves.png"}
    write_job(tmp_path, "a=2", "b=2", "c=1", "d=1")
    draw(read_sweep(tmp_path))
    assert {path.name for path in tmp_path.glob("*.png")} == {"heatmap.png"}
    write_job(tmp_path, "a=2", "b=2", "c=2", "d=2")
    draw(read_sweep(tmp_path))
    assert not list(tmp_path.glob("*.png"))
    assert capsys.readouterr().out == "no heat map: 4 keys vary (a, b, c, d), and it shows three at most\n"


def test_a_gallery_of_a_large_grid_keeps_its_ends(tmp_path: Path) -> None:
    for sigma in range(5):
        for latent in range(1, 5):
            write_job(tmp_path, f"noise.sigma={sigma}", f"latent={latent}")
    sweep = read_sweep(tmp_path)
    shown = [setting.values for setting in spread(sweep.settings)]
    assert len(set(shown)) == 12
    assert (shown[0], shown[-1]) == (("0", "1"), ("4", "4"))
    assert {sigma for sigma, _ in shown} == {"0", "1", "2", "3", "4"}
    assert spread(sweep.settings[:3]) == sweep.settings[:3]


def test_what_cannot_be_drawn_costs_a_line_and_no_numbers(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summarize(grid)  # there are no checkpoints
    assert (grid / "summary.csv").exists()
    assert (grid / "heatmap.png").exists()
    error = capsys.readouterr().err
    assert error.startswith("warning: no gallery.png: checkpoint=")
    assert error.count("\n") == 1


def test_a_sweep_tells_how_far_it_is_and_ends_with_its_answer(tmp_path: Path, idx_root: Path) -> None:
    sweep = tmp_path / "sweep"
    jobs = ("noise.sigma=1,2", "seed=0,1", f"hydra.sweep.dir={sweep}")
    training = Training(tmp_path, "-m", *small(idx_root, *jobs, "trainer.max_epochs=1"))
    assert training.status() == 0, training.said
    told = [line for line in training.said.splitlines() if line.startswith("[sweep]")]
    assert told[0].startswith("[sweep] 1 done, 3 left of 4; expected end ")
    assert [line.split(" of ")[0] for line in told[-2:]] == ["[sweep] 3 done, 1 left", "[sweep] 4 done, 0 left"]
    assert training.said.endswith(f"2 finished\n{told[-1]}\nsummary and figures: {sweep}\n")
    assert {path.name for path in sweep.iterdir() if path.is_file()} >= {
        *("summary.csv", "summary.json", "curves.png", "gallery.png")
    }
    results = [json.loads(path.read_text()) for path in sweep.glob("*noise.sigma=2*/results.json")]
    mean = sum(result["test"]["model"]["denoising"]["psnr"] for result in results) / 2
    settings = json.loads((sweep / "summary.json").read_text())["settings"]
    assert settings[1]["test"]["test/denoising/psnr"]["mean"] == pytest.approx(mean)


def test_a_sweep_over_paths_keeps_its_jobs_apart_and_a_path_for_all_is_in_no_name(
    tmp_path: Path, idx_root: Path
) -> None:
    for name in ("a/b", "a_b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(idx_root)
    several = (*small(idx_root, "trainer.max_epochs=1")[3:], "trainer=cpu", "data=idx")
    training = Training(tmp_path, "-m", *several, "data.root=a/b,a_b", "hydra.sweep.dir=both")
    assert training.status() == 0, training.said
    roots = [json.loads(path.read_text())["config"]["data"]["root"] for path in tmp_path.glob("both/*/job.json")]
    assert sorted(roots) == [str(tmp_path / name) for name in ("a/b", "a_b")]
    training = Training(tmp_path, "-m", *several, "data.root=a_b", "seed=0,1", "hydra.sweep.dir=one")
    assert training.status() == 0, training.said
    names = [path.parent.name for path in tmp_path.glob("one/*/job.json")]
    assert len(names) == 2
    assert not any("root" in name for name in names)


def test_a_single_run_has_no_sweeps_lines(tmp_path: Path, idx_root: Path) -> None:
    training = Training(tmp_path, *small(idx_root, f"hydra.run.dir={tmp_path / 'run'}", "trainer.max_epochs=1"))
    assert training.status() == 0, training.said
    assert "[sweep]" not in training.said
    with pytest.raises(SweepError, match="a single run's folder; give that of a multirun, which holds one per job"):
        read_sweep(tmp_path / "run")


def test_a_folder_that_is_no_sweep_is_one_line_and_a_status_without_torch(tmp_path: Path) -> None:
    write_plan(tmp_path / "planned", "latent=1,2")
    (tmp_path / "empty").mkdir()
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    program = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'lightning'])\n"
        "from dae_lightning.cli.commands import summarize\n"
        "for given in sys.argv[1:]:\n"
        "    sys.argv[1:] = given.split()\n"
        "    try: summarize()\n"
        "    except SystemExit as end: print(end.code)\n"
    )
    given = ["nowhere", "empty", "run", "planned", "", "a b", "--help"]
    answer = subprocess.run(
        [sys.executable, "-c", program, *given],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.splitlines()[:7] == [
        "error: nowhere: no such folder",
        "error: empty: no sweep in it (there is no multirun.yaml, which a multirun writes)",
        "error: run: a single run's folder; give that of a multirun, which holds one per job",
        "[sweep] 0 done, 2 left of 2",
        "error: give one sweep's folder: dae-summarize SWEEP_DIR",
        "error: give one sweep's folder: dae-summarize SWEEP_DIR",
        "dae-summarize SWEEP_DIR [plugins=[MODULE]]",
    ]
    assert answer.stderr == ""
