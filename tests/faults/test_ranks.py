"""Ranks that die, hang or fail bring the run down in one line, and what was saved goes on bit by bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dae_lightning.errors import FolderInUseError
from dae_lightning.locks import sole_use
from tests.conftest import Run, weights
from tests.faults.kills import differing_bits, outcome
from tests.faults.processes import PATIENCE, Training, free_port, small, torchrun

TRAIN = Path(__file__).parents[2] / "train.py"


def two(idx_root: Path, *more: str) -> list[str]:
    """The arguments of a small training on two ranks."""
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=3", "checkpoint.every_n_steps=4", *more)
    return [argument for argument in small(idx_root) if not argument.startswith("trainer")] + list(ddp)


MISCHIEF = """\
import os, signal, time
from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.training import checkpoints
from dae_lightning.training.many_steps import FusedAdam, ManySteps
from tests.faults.processes import PATIENCE, before
from tests.faults.test_divergence import poison
def act():
    if os.environ.get("RANK") == "{number}":
        {act}
{arrange}
"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"


def on_rank(cwd: Path, number: int, arrange: str, act: str) -> str:
    """A plugin that arranges a fault; `act` is the code that one rank alone runs."""
    (cwd / "mischief.py").write_text(MISCHIEF.format(number=number, arrange=arrange, act=act))
    return "plugins=[mischief]"


def at_step(cwd: Path, nth: int, number: int, act: str) -> str:
    """A plugin that does something on one rank in front of its n-th optimiser step."""
    return on_rank(cwd, number, f"before(FusedAdam, 'update', act, {nth})", act)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, idx_root: Path) -> list[bytes]:
    """The outcome of a run on two ranks that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    run = Training(folder, *two(idx_root, f"hydra.run.dir={folder / 'run'}"))
    assert run.status() == 0, run.said
    return outcome(folder / "run")


def assert_goes_on(folder: Path, whole: list[bytes], *changes: str) -> None:
    (folder.parent / "mischief.py").write_text("")
    again = Training(folder.parent, f"resume={folder}", *changes)
    assert again.status() == 0, again.said
    assert differing_bits(outcome(folder), whole) == 0


@pytest.mark.parametrize(("number", "step"), [pytest.param(0, 20, marks=pytest.mark.slow), (1, 1), (1, 30)])
def test_a_rank_that_is_killed_brings_the_run_down_and_it_goes_on_bit_by_bit(
    tmp_path: Path, idx_root: Path, whole: list[bytes], number: int, step: int
) -> None:
    folder = tmp_path / "run"
    fault = at_step(tmp_path, step, number, f"(open('died', 'w').close(), {DIE})")
    killed = Training(tmp_path, *two(idx_root, f"hydra.run.dir={folder}", fault))
    assert killed.status() == 1
    assert time.time() - (tmp_path / "died").stat().st_mtime < 30
    goes_on = f"; continue with resume={folder}" if step > 1 else ""
    assert killed.said.endswith(f"error: rank {number} was ended by SIGKILL{goes_on}\n"), killed.said
    assert "Traceback" not in killed.said
    if step > 1:
        assert_goes_on(folder, whole)


def test_when_the_command_is_killed_its_ranks_end_and_it_goes_on_bit_by_bit(
    tmp_path: Path, idx_root: Path, whole: list[bytes]
) -> None:
    folder = tmp_path / "run"
    kill = at_step(tmp_path, 20, 1, "os.kill(os.getppid(), signal.SIGKILL)")
    killed = Training(tmp_path, *two(idx_root, "trainer.max_epochs=1000000", f"hydra.run.dir={folder}", kill))
    assert killed.status() == -signal.SIGKILL
    deadline = time.monotonic() + PATIENCE
    while True:  # until they end, the first rank holds the lock
        try:
            with sole_use(folder):
                break
        except FolderInUseError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert_goes_on(folder, whole, "trainer.max_epochs=3")


@pytest.mark.parametrize(
    ("signum", "told", "call", "nth"),
    [
        (signal.SIGINT, "getppid", "ManySteps, 'validation_step'", 2),
        (signal.SIGTERM, "getpid", "ManySteps, 'loss'", 20),
        (signal.SIGTERM, "getpid", "checkpoints, 'highest'", 7),
    ],
    ids=["the command", "a rank", "a rank while the ranks agree whether to stop"],
)
def test_a_signal_stops_all_ranks_at_one_step_and_loses_nothing(
    tmp_path: Path, idx_root: Path, whole: list[bytes], signum: signal.Signals, told: str, call: str, nth: int
) -> None:
    folder = tmp_path / "run"
    tell = on_rank(tmp_path, 1, f"before({call}, act, {nth})", f"os.kill(os.{told}(), {int(signum)})")
    stopped = Training(tmp_path, *two(idx_root, f"hydra.run.dir={folder}", tell))
    assert stopped.status() == 128 + signum, stopped.said
    assert stopped.said.endswith(f"stopped by {signum.name}; everything is saved, continue with resume={folder}\n")
    assert stopped.said.count("saving; once more stops at once") == (told == "getppid")
    assert "Traceback" not in stopped.said
    assert_goes_on(folder, whole)


def test_a_second_signal_stops_at_once(tmp_path: Path, idx_root: Path) -> None:
    folder = tmp_path / "run"
    slow = at_step(tmp_path, 20, 0, "(open('slow', 'w').close(), [time.sleep(0.1) for _ in range(600)])")
    run = Training(tmp_path, *two(idx_root, f"hydra.run.dir={folder}", slow))
    run.wait_until(lambda: (tmp_path / "slow").exists())
    run.send(signal.SIGTERM)
    run.wait_until(lambda: "SIGTERM: saving; once more stops at once" in run.said)
    run.send(signal.SIGTERM)
    assert run.status() == -signal.SIGTERM


def test_a_signal_while_the_images_are_read_stops_at_once(tmp_path: Path, idx_root: Path) -> None:
    act = "(os.kill(os.getppid(), signal.SIGTERM), time.sleep(PATIENCE))"
    tell = on_rank(tmp_path, 0, "before(ImageDataModule, 'setup', act)", act)
    stopped = Training(tmp_path, *two(idx_root, tell))
    assert stopped.status() == 128 + signal.SIGTERM
    assert stopped.said == "stopped by SIGTERM\n"


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_in_one_line(tmp_path: Path, idx_root: Path) -> None:
    folder = tmp_path / "run"
    diverge = on_rank(tmp_path, 1, "before(ManySteps, 'loss', act, 3)", "poison(step=21)")
    run = Training(tmp_path, *two(idx_root, f"hydra.run.dir={folder}", diverge))
    assert run.status() == 1
    assert run.said.count("error: ") == 1
    assert run.said.endswith("error: the loss of step 21, at rate 0.001, is nan: lower optim.lr=0.001\n")
    assert all(bool(value.isfinite().all()) for value in weights(folder).values())


@pytest.mark.slow
def test_a_rank_that_hangs_is_told_of_within_about_a_minute(tmp_path: Path, idx_root: Path) -> None:
    hang = at_step(tmp_path, 20, 1, "(open('hung', 'w').close(), time.sleep(1000))")
    run = Training(tmp_path, *two(idx_root, hang))
    run.wait_until(lambda: (tmp_path / "hung").exists())
    assert run.status() == 1
    last = run.said.splitlines()[-1]
    assert last.startswith("error: rank 0: another rank has died, or has not answered in time ("), run.said


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_an_unforeseen_error_on_one_rank_is_shown_and_is_the_runs(tmp_path: Path, idx_root: Path, number: int) -> None:
    run = Training(tmp_path, *two(idx_root, at_step(tmp_path, 20, number, "raise KeyError('a bug')")))
    assert run.status() == 1
    assert run.said.count("Traceback") == 1
    assert run.said.endswith(f"error: rank {number}: KeyError: 'a bug'\n")


def test_a_disk_that_is_full_is_one_line(tmp_path: Path, idx_root: Path) -> None:
    folder = tmp_path / "run"
    full = on_rank(tmp_path, 0, "before(os, 'replace', act, 9)", "raise OSError(28, 'No space left on device')")
    run = Training(tmp_path, *two(idx_root, f"hydra.run.dir={folder}", full))
    assert run.status() == 1
    assert run.said.count("error: ") == 1
    assert f"error: {folder}" in run.said.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_a_rank_refuses_is_one_line(tmp_path: Path, idx_root: Path) -> None:
    run = Training(tmp_path, *two(idx_root, "trainer.accelerator=gpu"))
    assert run.status() == 1
    assert run.said == "error: trainer.accelerator=gpu: torch sees no CUDA GPU here; trainer=cpu needs none\n"


def test_the_ranks_share_out_the_threads(tmp_path: Path, idx_root: Path) -> None:
    def four() -> None:
        os.environ.pop("OMP_NUM_THREADS", None)
        torch.set_num_threads(4)

    folder = tmp_path / "run"
    run = Training(tmp_path, *two(idx_root, "trainer.max_epochs=1", f"hydra.run.dir={folder}"), prepare=four)
    assert run.status() == 0, run.said
    assert json.loads((folder / "results.json").read_text())["device"] == "2 ranks, the first on cpu (2 threads)"


# --- started from outside: by torchrun, by srun ------------------------------------------------------------------


def srun(number: int, port: int) -> dict[str, str]:
    """What a task of `srun --nodes=2 --ntasks-per-node=1` finds; both nodes are this one."""
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "127.0.0.1"}
    task = {"SLURM_PROCID": str(number), "SLURM_LOCALID": "0", "SLURM_NODEID": str(number), "SLURM_JOB_NAME": "dae"}
    return step | task | {"SLURM_JOB_ID": "7", "MASTER_PORT": str(port)}


STARTERS = {"torchrun": (torchrun, ()), "srun": (srun, ("trainer.devices=1", "trainer.num_nodes=2"))}


def started(by: str, cwd: Path, arguments: list[str], *changes: str) -> Iterator[Training]:
    """Two ranks, started from outside."""
    starter, its = STARTERS[by]
    port = free_port()
    for number in range(2):

        def prepare(number: int = number) -> None:
            os.environ.update(starter(number, port), OMP_NUM_THREADS="1")  # as many as `whole` has: bits hang on it

        yield Training(cwd / f"rank_{number}", *arguments, *its, *changes, prepare=prepare)


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
    for place in ("rank_0", "rank_1"):
        (tmp_path / place).mkdir()
        fault = at_step(tmp_path / place, 20, 1, DIE)
    first, second = started(by, tmp_path, arguments, fault)
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
