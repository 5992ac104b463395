"""`dae-demo`: from nothing to a page in which to try two models, in one go. It needs no download."""

import sys
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from dae_lightning import config
from dae_lightning.cli.hydra_app import CONF, composed, one_line_errors, plain, settings_of
from dae_lightning.cli.run_folders import OUTPUTS, find_checkpoint
from dae_lightning.errors import ConfigError
from dae_lightning.files import replace_text
from dae_lightning.locks import sole_use
from dae_lightning.signals import stop_at_once

MODELS = {  # what dae-train is told of each: short trainings, so that the demo ends within two minutes on two cores
    "any_sigma": ("data=glyphs", "experiment=any_sigma", "trainer.max_epochs=8", "figures=false"),
    "sigma2": ("data=glyphs", "experiment=fast_sigma2", "figures=false"),
}
HELP = """\
dae-demo

Train two models on letters that come with matplotlib, one for every noise level and one for sigma 2, and make a page in
which to try them in a browser. It takes no keys: it prints the commands that do the same.
"""


def demo() -> None:
    """`dae-demo`."""
    with one_line_errors(config.Train):
        if {"-h", "--help"} & set(sys.argv):
            print(HELP, end="")
            return
        if sys.argv[1:]:
            raise ConfigError(f"{sys.argv[1]}: dae-demo takes no keys; dae-train does")
        folder = OUTPUTS / "demo" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        checkpoints = {str(folder / name): _train(folder / name, told) for name, told in MODELS.items()}

        from dae_lightning.inference.page import export_page

        page = folder / "page.html"
        print(f"$ dae-export 'checkpoint=[{','.join(checkpoints)}]' format=page output={page}", flush=True)
        settings = config.Export(checkpoint=tuple(checkpoints), format="page", output=str(page))
        export_page(settings, checkpoints)


def _train(folder: Path, told: tuple[str, ...]) -> Path:
    """Do what `dae-train` does in this folder; the checkpoint that counts."""
    print(f"$ dae-train {' '.join(told)} hydra.run.dir={folder}", flush=True)
    cfg = composed(CONF, "train", list(told))
    settings = settings_of(cfg)

    from dae_lightning.training.run import train

    with sole_use(folder):
        train(
            settings, folder, record=lambda: replace_text(folder / ".hydra/config.yaml", OmegaConf.to_yaml(plain(cfg)))
        )
    stop_at_once()  # the training has listened for signals in its own way
    return find_checkpoint(folder)
