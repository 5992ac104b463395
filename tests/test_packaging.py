"""An ordinary install of the wheel: the command, its configurations, from any directory."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_carries_its_configurations_and_works_from_any_directory(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    # -P -S would lose the dependencies: the installed package only has to come before the checkout's
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from dae_lightning.cli import hydra_app as command_line, commands; print(command_line.CONF); commands.train()"
    )
    (tmp_path / "own" / "noise").mkdir(parents=True)
    (tmp_path / "own" / "noise" / "strong.yaml").write_text("defaults: [gaussian]\nsigma: 4.5\n")
    arguments = ["--cfg", "job", "--config-dir", "own", "latent=7", "noise=strong"]
    shown = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    conf = tmp_path / "site" / "dae_lightning" / "conf"
    assert shown.stdout.splitlines()[0] == str(conf)
    assert "latent: 7" in shown.stdout
    assert "sigma: 4.5" in shown.stdout
    assert (conf / "noise" / "schema.json").is_file()
    assert (tmp_path / "site" / "bin" / "dae-train").is_file()
    assert (tmp_path / "site" / "hydra_plugins" / "dae_search.py").is_file()
    assert not (tmp_path / "site" / "hydra_plugins" / "__init__.py").exists()  # it is everybody's
    assert (tmp_path / "site" / "dae_lightning" / "inference" / "page" / "index.html").is_file()
