"""How the threads wait and how many there are, before torch is imported; only where the user has not said it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dae_lightning import threads

NAMES = (*threads.WAITING, *threads.NUMBER)


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("busy", "expected"), [(True, {"OMP_WAIT_POLICY": "PASSIVE"}), (False, {"GOMP_SPINCOUNT": "30000"})]
)
def test_threads_spin_only_where_the_machine_is_quiet(
    busy: bool, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "is_busy", lambda: busy)
    threads.settle()
    assert {name: os.environ[name] for name in NAMES if name in os.environ} == expected


@pytest.mark.parametrize("name", threads.WAITING)
def test_what_the_user_has_set_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    threads.settle()
    assert {other: os.environ[other] for other in NAMES if other in os.environ} == {name: "1"}


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "max 100000"}, 4),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "900000 100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"}, 2),
        ({}, 4),
    ],
)
def test_a_process_may_keep_as_many_cpus_busy_as_its_container_allows(
    files: dict[str, str], cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert threads.usable_cpus(tmp_path) == cpus


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_busy_machine_is_seen() -> None:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        assert threads.is_busy()
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("train", ["data=glyphs", "hydra.run.dir={folder}"]), ("evaluate", ["checkpoint={run}", "output={folder}"])],
)
def test_a_command_settles_it_before_torch_is_imported(command: str, arguments: list[str], tmp_path: Path) -> None:
    program = f"""
import os, sys
class Probe:
    def find_spec(self, name, *_):
        if name == "torch":
            print(*[name for name in {threads.WAITING} if name in os.environ], flush=True)
            os._exit(0)
sys.meta_path.insert(0, Probe())
from dae_lightning.cli.main import {command}
{command}()
"""
    places = {"folder": tmp_path, "run": Path(__file__).parent / "data" / "run_of_0_1"}
    called = [sys.executable, "-c", program, *(argument.format(**places) for argument in arguments)]
    assert subprocess.check_output(called, text=True).strip() in threads.WAITING


@pytest.mark.parametrize(("size", "number"), [(100_000, 1), (1_400_000, 1), (2_000_000, 2), (1e9, 4)])
def test_a_training_takes_no_more_threads_than_pay(size: float, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    threads.first_number.cache_clear()
    threads.take_as_many_as_pay(size)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    threads.take_as_many_as_pay(size)
    threads.first_number.cache_clear()
    assert taken == [number]


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="MKL's promise")
def test_weights_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    program = "from dae_lightning.cli.main import train; train()"
    settings = ["data=glyphs", "trainer=cpu", "+trainer.max_steps=20", "+trainer.limit_val_batches=0", "figures=false"]
    weights = []
    for number in "12":
        folder = tmp_path / number
        called = [sys.executable, "-c", program, *settings, f"hydra.run.dir={folder}"]
        subprocess.run(called, env=os.environ | {"OMP_NUM_THREADS": number}, check=True, capture_output=True)
        assert f"{number} threads" in (folder / "results.json").read_text()
        weights.append(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_whoever_starts_several_processes_divides_the_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cpus", lambda: 0)  # fewer than there are
    threads.settle()
    assert os.environ["OMP_NUM_THREADS"] == "0"
    threads.leave_the_number()
    assert "OMP_NUM_THREADS" not in os.environ
