"""Ranks that die, hang or fail bring the run down in one line, and what was saved goes on bit by bit."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.errors import FolderInUseError
from dae_lightning.locks import sole_use
from dae_lightning.training import ddp as distributed
from dae_lightning.training import launching
from dae_lightning.training import run as training
from dae_lightning.training.many_steps import FusedAdam, ManySteps
from tests.conftest import Run, weights
from tests.faults.kills import differing_bits, outcome
from tests.faults.processes import PATIENCE, Training, before, small
from tests.faults.test_divergence import poison

TRAIN = Path(__file__).parents[2] / "train.py"


def two(idx_root: Path, *more: str) -> list[str]:
    """The arguments of a small training on two ranks."""
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=3", "checkpoint.every_n_steps=4", *more)
    return [argument for argument in small(idx_root) if not argument.startswith("trainer")] + list(ddp)


def on_rank(number: int, act: Callable[[], object]) -> Callable[[], None]:
    """Do something on one rank alone."""
    return lambda: act() if os.environ.get("RANK") == str(number) else None  # type: ignore[func-returns-value]


def at_step(nth: int, number: int, act: Callable[[], object]) -> Callable[[], None]:
    """Do something on one rank in front of its n-th optimiser step."""
    return lambda: before(FusedAdam, "update", on_rank(number, act), nth)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, idx_root: Path) -> list[bytes]:
    """The outcome of a run on two ranks that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    run = Training(folder, *two(idx_root, f"hydra.run.dir={folder / 'run'}"))
    assert run.status() == 0, run.said
    return outcome(folder / "run")


def assert_goes_on(folder: Path, whole: list[bytes], *changes: str) -> None:
    again = Training(folder.parent, f"resume={folder}", *changes)
    assert again.status() == 0, again.said
    assert differing_bits(outcome(folder), whole) == 0


@pytest.mark.parametrize(("number", "step"), [pytest.param(0, 20, marks=pytest.mark.slow), (1, 1), (1, 30)])
def test_a_rank_that_is_killed_brings_the_run_down_and_it_goes_on_bit_by_bit(
    tmp_path: Path, idx_root: Path, whole: list[bytes], number: int, step: int
) -> None:
    folder = tmp_path / "run"
    killed = Training(tmp_path, *two(idx_root, f"hydra.run.dir={folder}"), prepare=at_step(step, number, die))
    assert killed.status() == 1
    goes_on = f"; continue with resume={folder}" if step > 1 else ""
    assert killed.said.endswith(f"error: rank {number} was ended by SIGKILL{goes_on}\n"), killed.said
    assert "Traceback" not in killed.said
    if step > 1:
        assert_goes_on(folder, whole)


def test_when_the_command_is_killed_its_ranks_end_and_it_goes_on_bit_by_bit(
    tmp_path: Path, idx_root: Path, whole: list[bytes]
) -> None:
    folder = tmp_path / "run"
    kill = at_step(20, 1, lambda: os.kill(os.getppid(), signal.SIGKILL))
    killed = Training(tmp_path, *two(idx_root, "trainer.max_epochs=1000000", f"hydra.run.dir={folder}"), prepare=kill)
    assert killed.status() == -signal.SIGKILL
    deadline = time.monotonic() + PATIENCE
    while True:  # until they end, the ranks hold the lock that they have from their parent
        try:
            with sole_use(folder):
                break
        except FolderInUseError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert_goes_on(folder, whole, "trainer.max_epochs=3")


@pytest.mark.parametrize(
    ("signum", "told", "name", "nth"),
    [(signal.SIGINT, os.getppid, "validation_step", 2), (signal.SIGTERM, os.getpid, "loss", 20)],
    ids=["the command", "a rank"],
)
def test_a_signal_stops_all_ranks_at_one_step_and_loses_nothing(
    tmp_path: Path,
    idx_root: Path,
    whole: list[bytes],
    signum: signal.Signals,
    told: Callable[[], int],
    name: str,
    nth: int,
) -> None:
    folder = tmp_path / "run"
    tell = on_rank(1, lambda: os.kill(told(), signum))
    stopped = Training(
        tmp_path,
        *two(idx_root, f"hydra.run.dir={folder}"),
        prepare=lambda: before(ManySteps, name, tell, nth),
    )
    assert stopped.status() == 128 + signum, stopped.said
    assert stopped.said.endswith(f"stopped by {signum.name}; everything is saved, continue with resume={folder}\n")
    assert stopped.said.count("saving; once more stops at once") == (told is os.getppid)
    assert "Traceback" not in stopped.said
    assert_goes_on(folder, whole)


def test_a_second_signal_stops_at_once(tmp_path: Path, idx_root: Path) -> None:
    folder = tmp_path / "run"
    slow = lambda: [(tmp_path / "slow").touch(), *(time.sleep(0.1) for _ in range(600))]  # noqa: E731
    run = Training(tmp_path, *two(idx_root, f"hydra.run.dir={folder}"), prepare=at_step(20, 0, slow))
    run.wait_until(lambda: (tmp_path / "slow").exists())
    run.send(signal.SIGTERM)
    run.wait_until(lambda: "SIGTERM: saving; once more stops at once" in run.said)
    run.send(signal.SIGTERM)
    assert run.status() == -signal.SIGTERM


def test_a_signal_while_the_images_are_read_stops_at_once(tmp_path: Path, idx_root: Path) -> None:
    tell = on_rank(0, lambda: (os.kill(os.getppid(), signal.SIGTERM), time.sleep(PATIENCE)))
    stopped = Training(tmp_path, *two(idx_root), prepare=lambda: before(ImageDataModule, "setup", tell))
    assert stopped.status() == 128 + signal.SIGTERM
    assert stopped.said == "stopped by SIGTERM\n"


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_in_one_line(tmp_path: Path, idx_root: Path) -> None:
    def diverge() -> None:
        sound = ManySteps.loss
        poison(step=21)
        poisoned = ManySteps.loss
        ManySteps.loss = lambda self, noisy, clean: (  # type: ignore[method-assign]
            poisoned if os.environ["RANK"] == "1" else sound
        )(self, noisy, clean)

    folder = tmp_path / "run"
    run = Training(tmp_path, *two(idx_root, f"hydra.run.dir={folder}"), prepare=diverge)
    assert run.status() == 1
    assert run.said.count("error: ") == 1
    assert run.said.endswith("error: the loss of step 21, at rate 0.001, is nan: lower optim.lr=0.001\n")
    assert all(bool(value.isfinite().all()) for value in weights(folder).values())


@pytest.mark.slow
def test_a_rank_that_hangs_is_told_of(tmp_path: Path, idx_root: Path) -> None:
    def prepare() -> None:
        distributed.ANSWER, launching.GRACE = timedelta(seconds=3), 0.1
        at_step(20, 1, lambda: time.sleep(PATIENCE))()

    run = Training(tmp_path, *two(idx_root), prepare=prepare)
    assert run.status() == 1
    last = run.said.splitlines()[-1]
    assert last.startswith("error: rank 0: another rank has died, or has not answered in time ("), run.said


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_an_unforeseen_error_on_one_rank_is_shown_and_is_the_runs(tmp_path: Path, idx_root: Path, number: int) -> None:
    def fail() -> None:
        raise KeyError("a bug")

    run = Training(tmp_path, *two(idx_root), prepare=at_step(20, number, fail))
    assert run.status() == 1
    assert run.said.count("Traceback") == 1
    assert run.said.endswith(f"error: rank {number}: KeyError: 'a bug'\n")


def test_a_disk_that_is_full_is_one_line(tmp_path: Path, idx_root: Path) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    folder = tmp_path / "run"
    run = Training(tmp_path, *two(idx_root, f"hydra.run.dir={folder}"), prepare=lambda: before(os, "replace", full, 9))
    assert run.status() == 1
    assert run.said.count("error: ") == 1
    assert f"error: {folder}" in run.said.splitlines()[-1]


def test_every_job_of_a_sweep_has_its_own_ranks(tmp_path: Path, idx_root: Path) -> None:
    jobs = ("seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.sweep.subdir=job_${hydra.job.num}")
    train = training._train

    def fault() -> None:
        training._train = lambda settings, *rest: on_rank(settings.seed, die)() or train(settings, *rest)

    sweep = Training(tmp_path, "-m", *two(idx_root, *jobs, "trainer.max_epochs=1"), prepare=fault)
    assert sweep.status() == 1
    assert "error: job_0: rank 1 was ended by SIGKILL\n" in sweep.said
    statuses = [json.loads((tmp_path / "sweep" / job / "job.json").read_text())["status"] for job in ("job_0", "job_1")]
    assert statuses == ["interrupted", "finished"]


def test_a_process_that_has_computed_on_several_threads_can_start_ranks(tmp_path: Path, idx_root: Path) -> None:
    """Its helpers (OpenMP's) are not there in a process forked from it; the ranks share out as many."""

    def compute() -> None:
        os.environ.pop("OMP_NUM_THREADS", None)
        torch.set_num_threads(6)
        torch.rand(2_000_000).exp()

    folder = tmp_path / "run"
    run = Training(tmp_path, *two(idx_root, "trainer.max_epochs=1", f"hydra.run.dir={folder}"), prepare=compute)
    assert run.status() == 0, run.said
    assert json.loads((folder / "results.json").read_text())["device"] == "2 ranks, the first on cpu (3 threads)"


# --- started from outside: by torchrun, by srun ------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def torchrun(number: int, port: int) -> dict[str, str]:
    """What a worker of torchrun finds, without an agent that keeps the store."""
    ranks = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    return ranks | {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def srun(number: int, port: int) -> dict[str, str]:
    """What a task of `srun --nodes=2 --ntasks-per-node=1` finds; both nodes are this one."""
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "127.0.0.1"}
    task = {"SLURM_PROCID": str(number), "SLURM_LOCALID": "0", "SLURM_NODEID": str(number), "SLURM_JOB_NAME": "dae"}
    return step | task | {"SLURM_JOB_ID": "7", "MASTER_PORT": str(port)}


STARTERS = {"torchrun": (torchrun, ()), "srun": (srun, ("trainer.devices=1", "trainer.num_nodes=2"))}


def started(by: str, cwd: Path, arguments: list[str], fault: Callable[[], object] = lambda: None) -> Iterator[Training]:
    """Two ranks, started from outside."""
    starter, changes = STARTERS[by]
    port = free_port()
    for number in range(2):

        def prepare(number: int = number) -> None:
            os.environ.update(starter(number, port), OMP_NUM_THREADS="1")  # as many as `whole` has: bits hang on it
            fault()

        yield Training(cwd / f"rank_{number}", *arguments, *changes, prepare=prepare)


@pytest.mark.parametrize("by", STARTERS)
def test_ranks_started_from_outside_are_one_run_in_one_folder(tmp_path: Path, idx_root: Path, by: str) -> None:
    # every rank has its own working directory, and a time of its own: so its own folder, as Hydra sees it
    ranks = list(started(by, tmp_path, two(idx_root)))
    assert [rank.status() for rank in ranks] == [0, 0], [rank.said for rank in ranks]
    (results,) = tmp_path.rglob("results.json")
    assert results.is_relative_to(tmp_path / "rank_0")
    assert not [path for path in (tmp_path / "rank_1").rglob("*") if path.name != "said.txt" and path.is_file()]
    assert ranks[1].said == ""


@pytest.mark.slow
@pytest.mark.parametrize("by", STARTERS)
def test_ranks_started_from_outside_go_on_bit_by_bit_when_one_was_killed(
    tmp_path: Path, idx_root: Path, whole: list[bytes], by: str
) -> None:
    folder = tmp_path / "run"
    arguments = two(idx_root, f"hydra.run.dir={folder}", "resume=auto")
    first, second = started(by, tmp_path, arguments, at_step(20, 1, die))
    assert second.status() == -signal.SIGKILL
    assert first.status() == 1
    last = first.said.splitlines()[-1]
    assert last.startswith("error: rank 0: another rank has died, or has not answered in time (")
    assert last.endswith(f"); continue with resume={folder}")
    again = list(started(by, tmp_path, arguments))
    assert [rank.status() for rank in again] == [0, 0], [rank.said for rank in again]
    assert differing_bits(outcome(folder), whole) == 0


def agents(cwd: Path, *arguments: str) -> list["subprocess.Popen[str]"]:
    """Two torchrun agents on loopback, which stand for two machines; each starts one rank."""
    port = free_port()
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=dae"]
    nodes = []
    for node in range(2):
        place = ["--local-addr=127.0.0.1", str(TRAIN), *arguments, "trainer.devices=1", "trainer.num_nodes=2"]
        (cwd / f"node_{node}").mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        nodes.append(
            subprocess.Popen(
                [*command, *place],
                cwd=cwd / f"node_{node}",
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return nodes


@pytest.mark.slow
def test_two_torchrun_agents_are_one_process(tmp_path: Path, idx_root: Path, run: Run) -> None:
    nodes = agents(tmp_path, *two(idx_root, "examples=1"))
    said = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    (results,) = tmp_path.rglob("results.json")
    alone = run("alone", "latent=4", "steps_per_execution=2", "trainer.max_epochs=3")
    for name, value in weights(results.parent).items():
        torch.testing.assert_close(value, weights(alone)[name], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_rank_that_is_killed_brings_two_torchrun_agents_down_within_30_seconds(
    tmp_path: Path, idx_root: Path
) -> None:
    folder = tmp_path / "run"
    nodes = agents(tmp_path, *two(idx_root, f"hydra.run.dir={folder}", "trainer.max_epochs=1000000"))
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (worker,) = Path(f"/proc/{nodes[1].pid}/task/{nodes[1].pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    killed: Any = time.monotonic()
    said = [node.communicate(timeout=60)[0] for node in nodes]
    assert time.monotonic() - killed < 30
    assert all(node.returncode != 0 for node in nodes), said
