"""Processes that start at once on an empty data root: one download, all succeed; a killed one leaves nothing."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dae_lightning.data.mnist import FashionMnist
from tests.data.test_mnist import NAMES, WHOLE, Mirror, assert_whole, contents, mirror
from tests.faults.processes import FORK, PATIENCE

__all__ = ["mirror"]  # a fixture


def prepare(root: Path, ready: Any) -> None:
    ready.wait(PATIENCE)
    FashionMnist(root, timeout=5).prepare()
    assert_whole(root)


def start(root: Path, number: int) -> list[Any]:
    """Processes that all ask for the data in one instant."""
    ready = FORK.Barrier(number)
    processes = [FORK.Process(target=prepare, args=(root, ready)) for _ in range(number)]
    for process in processes:
        process.start()
    return processes


def statuses(processes: list[Any]) -> list[int]:
    for process in processes:
        process.join(PATIENCE)
    return [process.exitcode for process in processes]


def test_eight_processes_on_an_empty_root_download_once_and_all_succeed(tmp_path: Path, mirror: Mirror) -> None:
    assert statuses(start(tmp_path / "alone", 1)) == [0]
    asked_by_one = Counter(mirror.asked)
    assert asked_by_one.keys() == {f"{name}.gz" for name in NAMES}
    mirror.asked.clear()
    assert statuses(start(tmp_path / "together", 8)) == [0] * 8
    assert Counter(mirror.asked) == asked_by_one
    assert contents(tmp_path / "together") == WHOLE


def test_a_process_waits_as_long_as_the_one_that_fetches_lives_and_takes_over_when_it_is_killed(
    tmp_path: Path, mirror: Mirror, capfd: pytest.CaptureFixture[str]
) -> None:
    mirror.fault = "stall"
    (first,) = start(tmp_path, 1)
    wait_until(lambda: bool(mirror.asked))
    (second,) = start(tmp_path, 1)
    said: list[str] = []
    wait_until(lambda: said.append(capfd.readouterr().err) or any(said))
    assert "".join(said).startswith(f"waiting for process {first.pid} on ")
    second.join(0.3)
    assert second.is_alive()
    mirror.fault = ""
    first.kill()
    assert statuses([first, second]) == [-signal.SIGKILL, 0]
    assert contents(tmp_path) == WHOLE  # and no folder of the killed one


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
