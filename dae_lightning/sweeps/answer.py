"""What a search has found: the best settings as a command, which keys matter, and what other seeds make of it."""

import shlex
from importlib.util import find_spec
from math import sqrt
from pathlib import Path
from statistics import variance

from dae_lightning.cli.arguments import pasteable
from dae_lightning.sweeps.jobs import Job
from dae_lightning.sweeps.sweep import Setting, Sweep

ENOUGH = 2.0  # standard errors between two means, from which on they are told apart


def answer(sweep: Sweep) -> str:
    """A few lines to print under the table."""
    if not sweep.best:
        return "no trial has finished"
    ranked = ranking(sweep)
    job, mean = ranked[0].trial, ranked[0].mean(sweep.value)
    seeds = f", mean over {len(ranked[0].finished)} seeds" if len(ranked[0].finished) > 1 else ""
    best = f"best: trial {job.trials[0]}, {sweep.value} {mean:.{sweep.digits}f}{seeds}"
    lines = [best, f"  {command(job)}", importance(sweep)]
    return "\n".join([*lines, *trust(sweep, ranked)])


def ranking(sweep: Sweep) -> list[Setting]:
    """The settings to choose from, the best first: by their mean those that have several seeds, or all by their one."""
    confirmed = [setting for setting in sweep.best if len(setting.scores(sweep.value)) > 1]
    return sorted(confirmed, key=lambda setting: setting.mean(sweep.value) or 0.0) or sweep.best


def command(job: Job) -> str:
    """What trains with these settings, as a shell reads it, in any folder."""
    program = "python train.py" if (Path(__file__).parents[2] / "train.py").is_file() else "dae-train"  # a checkout's
    root = ((job.config or {}).get("data") or {}).get("root")
    words = [
        pasteable("data.root", Path(root)) if root and override.startswith("data.root=") else shlex.quote(override)
        for override in job.overrides or []
    ]
    return " ".join([program, *words])


def importance(sweep: Sweep) -> str:
    """The share of each key in what sets the best tenth of the trials apart (PED-ANOVA, Watanabe et al. 2023)."""
    if find_spec("optuna") is None:
        return "importance of the keys: needs optuna; pip install 'dae_lightning[search]'"
    from dae_lightning.sweeps.study import importances

    found = importances(sweep.folder)
    if not found:
        return "importance of the keys: these trials do not tell"
    return "importance of the keys: " + ", ".join(f"{key} {share:.0%}" for key, share in found.items())


def trust(sweep: Sweep, ranked: list[Setting]) -> list[str]:
    """How far the noise between seeds lets one believe the ranking."""
    several = [scores for setting in ranked if len(scores := setting.scores(sweep.value)) > 1]
    if not several:
        return ["trust: one seed each, so small differences may be noise; hydra.sweeper.confirm=3 tries more seeds"]
    freedom = sum(len(scores) - 1 for scores in several)
    noise = sqrt(sum((len(scores) - 1) * variance(scores) for scores in several) / freedom)
    lines = [f"trust: another seed changes a score by {noise:.2g} (standard deviation, {freedom} degrees of freedom)"]
    if len(several) > 1:
        first, second = ranked[:2]
        ahead = (second.mean(sweep.value) or 0.0) - (first.mean(sweep.value) or 0.0)
        error = noise * sqrt(1 / len(first.finished) + 1 / len(second.finished))
        verdict = "more than noise" if ahead > ENOUGH * error else "noise could explain it"
        lines.append(f"  the best mean is {ahead:.2g} ahead of the next, standard error {error:.2g}: {verdict}")
    values = [job.value for job in sweep.jobs if job.trials and job.status == "finished" and job.value is not None]
    close = sum(value <= min(values) + 2 * noise for value in values)
    lines.append(f"  {close} of {len(values)} finished trials are within two standard deviations of the best one")
    return lines
