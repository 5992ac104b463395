"""One model of patches on the photographs of the literature, beside classical denoisers.

    python -m benchmarks.photographs DIR OUT [KEY=VALUE ...]        (extras [baselines,bm3d])

DIR holds `train` and `Set68` (Zhang et al. 2017). Trains `experiment=photographs noise.clip=false` on `train` alone, in
the run folder OUT, with these keys; the same command resumes it. Then `dae-evaluate` on Set68: the model at more noise
levels, and, which takes half an hour of one core, BM3D and the filters at three (licence of `bm3d`: non-commercial use
only).
Claims:

- told sigma, at least the mean PSNR of `PSNR`, and at most half of BM3D's time a picture;
- at every sigma of `PSNR` and `LEVELS`, told or estimating it, no lower than the noisy picture;
- clean pictures come back, sigma estimated, at `CLEAN` dB or better on average.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from dae_lightning import Denoiser
from dae_lightning.data.datamodule import as_float
from dae_lightning.evaluation.photograph_inputs import find_photographs, read_grey
from dae_lightning.model.metrics import psnr

PSNR = {15: 30.8, 25: 28.4, 50: 25.4}  # dB by sigma of 255
LEVELS = (5, 10, 35, 75)  # of 255, more of them
CLEAN = 40.0
CLASSICAL = "methods=[noisy,total_variation,nl_means,wavelet,bm3d]"


def evaluate(run: str, photographs: str, folder: str, *overrides: str) -> list[dict[str, Any]]:
    """The means of what `dae-evaluate` leaves in a folder below the run."""
    output = Path(run, folder)
    keys = [f"checkpoint={run}", f"images={photographs}", f"output={output}", *overrides]
    subprocess.run([Path(sys.executable).with_name("dae-evaluate"), *keys], check=True)
    rows: list[dict[str, Any]] = json.loads((output / "evaluation.json").read_text())["rows"]
    return [row | {"sigma": round(255 * row["sigma"])} for row in rows if row["picture"] == "mean"]


def clean_psnr(run: str, photographs: str) -> float:
    denoiser = Denoiser.load(Path(run))
    clean = [as_float(read_grey(file)) for file in find_photographs(Path(photographs)).values()]
    return fmean(float(psnr(denoiser(one)[None], one[None]).clamp(max=100)) for one in clean)


def main(root: str, run: str, *overrides: str) -> bool:
    photographs = ["experiment=photographs", "noise.clip=false", f"data.root={root}/train"]
    keys = [f"hydra.run.dir={run}", "resume=auto", *overrides]
    subprocess.run([sys.executable, "train.py", *photographs, *keys], check=True)
    test = f"{root}/Set68"

    good = (clean := clean_psnr(run, test)) >= CLEAN
    print(f"clean pictures: {clean:.1f} dB (at least {CLEAN:g})")

    sigmas = ",".join(f"{level / 255:.6f}" for level in LEVELS)
    compared = evaluate(run, test, "evaluation", CLASSICAL)
    rows = compared + evaluate(run, test, "levels", f"sigmas=[{sigmas}]", "methods=[noisy]")
    noisy = {row["sigma"]: row["psnr"] for row in rows if row["method"] == "noisy"}
    models = [row for row in rows if row["method"].startswith("model")]
    gain, where, how = min((row["psnr"] - noisy[row["sigma"]], row["sigma"], row["method"]) for row in models)
    good &= gain >= 0
    print(f"the least gain: {gain:.2f} dB, of {how} at sigma {where} (at least 0)")

    by = {(row["method"], row["sigma"]): row for row in compared}
    for sigma, asked in PSNR.items():
        ours, bm3d = by["model_told", sigma], by["bm3d", sigma]
        good &= ours["psnr"] >= asked and ours["seconds"] <= bm3d["seconds"] / 2
        print(f"sigma {sigma}: {ours['psnr']:.2f} dB (at least {asked}); {ours['seconds'] / bm3d['seconds']:.2f} of")
        print(f"  BM3D's time (at most 0.5), which makes {bm3d['psnr']:.2f} dB")
    return bool(good)


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
