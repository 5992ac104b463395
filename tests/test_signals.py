"""Ctrl-C and SIGTERM on the whole command line: saved, said how to go on, the shell's status."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import weights

TRAIN = Path(__file__).parent.parent / "train.py"


def command(folder: Path, idx_root: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, str(TRAIN), "trainer=cpu", "data=idx", f"data.root={idx_root}", "latent=4"),
        *("batch_size=4", "steps_per_execution=2", "examples=1", f"hydra.run.dir={folder}", *more),
    ]


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step_and_the_run_can_go_on(
    tmp_path: Path, idx_root: Path, signum: signal.Signals, status: int
) -> None:
    folder = tmp_path / "run"
    endless = command(folder, idx_root, "trainer.max_epochs=1000000")
    with subprocess.Popen(endless, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (folder / "metrics.csv").exists():  # it trains
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"stopped by {signum.name}; everything is saved, go on with resume={folder}" in said
    assert "Traceback" not in said
    epochs = len((folder / "metrics.csv").read_text().splitlines()) - 1
    subprocess.run(
        command(folder, idx_root, "resume=last", f"trainer.max_epochs={epochs + 1}"), check=True, cwd=tmp_path
    )
    subprocess.run(command(tmp_path / "whole", idx_root, f"trainer.max_epochs={epochs + 1}"), check=True, cwd=tmp_path)
    resumed, whole = weights(folder), weights(tmp_path / "whole")
    assert all(bool((resumed[name] == whole[name]).all()) for name in whole)
