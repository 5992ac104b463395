"""How torch's threads wait for each other, and how many there are. OpenMP reads both once: when torch is imported.

A training step is a few matrix products, each shared by the threads; whoever is done first waits for the others. By
default GNU's OpenMP spins for milliseconds there. That is fastest where every thread has a core to itself; beside other
programs the waiting threads take the cores from those they wait for, and training becomes twenty times slower.
(GCC's manual, libgomp, "GOMP_SPINCOUNT"; benchmarks/busy.py, benchmarks/threads.py.)

No weight depends on it where torch uses MKL, which is asked for products whose bits are the same with any number of
threads. (A loss that is logged may differ in its last digit, where it is a sum over many pixels.)
"""

import os
import time
from contextlib import suppress
from functools import cache
from math import ceil, inf
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
SPIN = 30_000  # iterations, some 100 microseconds: as fast as the default where it is quiet
PAYS = 1_000_000  # multiply-adds of a step's smallest product; below it another thread gains nothing
LOOKS = 3  # at what else runs, 5 ms apart

_SETTLED: list[str] = []


def settle() -> None:
    """Set what the user's environment leaves open; to be called before torch is imported."""
    # "strict": intel.com, oneMKL developer guide, "Reproducibility Conditions"; as fast. Other libraries ignore it
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    if not any(name in os.environ for name in WAITING):
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE"} if is_busy() else {"GOMP_SPINCOUNT": str(SPIN)}
    # without a quota OpenMP finds the number itself
    if not any(name in os.environ for name in NUMBER) and (number := usable_cpus()) < _of_affinity():
        os.environ["OMP_NUM_THREADS"] = str(number)
        _SETTLED.append("OMP_NUM_THREADS")


def take_as_many_as_pay(multiply_adds: float) -> None:
    """Let torch use no more threads than gain time in products of that size, unless the user has said how many."""
    import torch

    if _SETTLED or not any(name in os.environ for name in NUMBER):
        torch.set_num_threads(min(first_number(), max(1, round(multiply_adds / PAYS))))


@cache
def first_number() -> int:
    """Torch's own, before an earlier training of this process has changed it."""
    import torch

    return torch.get_num_threads()


def leave_the_number() -> None:
    """For whoever starts several processes and divides the CPUs among them: a number that was settled here goes."""
    while _SETTLED:
        os.environ.pop(_SETTLED.pop(), None)


def usable_cpus(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """As many CPUs as this process may keep busy: those of its affinity, or the CPU quota of its container if fewer."""
    return max(1, ceil(min(_of_affinity(), _quota(groups))))


def is_busy() -> bool:
    """Whether the machine has fewer idle CPUs than this process has threads."""
    try:
        running = []
        for look in range(LOOKS):
            time.sleep(0.005 * (look > 0))
            running.append(int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1)  # without this one
    except OSError:  # not Linux
        return False
    others = sorted(running)[LOOKS // 2]
    return (os.cpu_count() or 1) - others < usable_cpus()


def _of_affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(groups: Path) -> float:
    """CPUs that the control group allows, from version 2's file or version 1's; infinite where it sets no bound."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        with suppress(OSError):
            quota, period = " ".join((groups / file).read_text() for file in files).split()
            return inf if quota in ("max", "-1") else int(quota) / int(period)
    return inf
