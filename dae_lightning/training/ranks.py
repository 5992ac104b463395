"""Which of several processes that train together this one is, by torchrun's variables or SLURM's. Free of torch."""

import os
from typing import NamedTuple

from dae_lightning import config
from dae_lightning.errors import ConfigError


class Rank(NamedTuple):
    """Of `size` processes the one numbered `number`, and `local` among those on its machine. Number 0 alone writes."""

    number: int = 0
    size: int = 1
    local: int = 0

    @classmethod
    def of_this_process(cls) -> "Rank | None":
        """None where nobody has started several."""
        if by_torchrun():
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # srun sets it; sbatch, which starts one, does not
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        else:
            return None
        return cls(*(int(os.environ[name]) for name in names))


def by_torchrun() -> bool:
    """Whether torchrun has started this process, or `launching`, which does as torchrun does."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def check_start(trainer: config.Trainer) -> int:
    """This process's number among those that were started together; 0 where it is the only one so far.

    Raises:
        ConfigError: they are not as many as the settings ask for, or do not train together.
    """
    rank = Rank.of_this_process()
    if trainer.strategy is None:
        if rank is not None and rank.size > 1 and by_torchrun():
            raise ConfigError(
                f"torchrun started {rank.size} processes: to train one model together they need trainer=ddp"
            )
        return 0
    if rank is None:
        if (trainer.num_nodes or 1) > 1:
            raise ConfigError(
                f"trainer.num_nodes={trainer.num_nodes}: start it under torchrun or srun, on each machine"
            )
        return 0
    if rank.size != trainer.ranks:
        raise ConfigError(
            f"trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes or 1}: that makes "
            f"{trainer.ranks} processes, but {rank.size} were started"
        )
    return rank.number
