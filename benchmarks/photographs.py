"""One model of patches on the photographs of the literature, beside classical denoisers.

    python -m benchmarks.photographs DIR OUT [KEY=VALUE ...]        (extras [baselines,bm3d])

DIR holds `train` and `Set68` (Zhang et al. 2017). Trains `experiment=photographs noise.clip=false` on `train` alone, in
the run folder OUT, with these keys; the same command resumes it. Then `dae-evaluate` on Set68, BM3D included, which
takes hours (licence: non-commercial use only). Claims, told sigma: at least `PSNR` at each sigma, and at most half of
BM3D's time a picture.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PSNR = {15: 30.8, 25: 28.4, 50: 25.4}  # dB by sigma of 255
METHODS = "methods=[noisy,total_variation,nl_means,wavelet,bm3d]"


def main(root: str, output: str, *overrides: str) -> bool:
    python, commands = sys.executable, Path(sys.executable).parent
    run = [f"hydra.run.dir={output}", "resume=auto"]
    photographs = ["experiment=photographs", "noise.clip=false", f"data.root={root}/train"]
    subprocess.run([python, "train.py", *photographs, *run, *overrides], check=True)
    evaluate = [f"checkpoint={output}", f"images={root}/Set68", METHODS]
    subprocess.run([commands / "dae-evaluate", *evaluate], check=True)
    rows = json.loads(Path(output, "evaluation", "evaluation.json").read_text())["rows"]

    def mean(method: str, sigma: int) -> dict[str, Any]:
        found = [row for row in rows if row["picture"] == "mean" and row["method"] == method]
        return next(row for row in found if round(255 * row["sigma"]) == sigma)

    good = True
    for sigma, asked in PSNR.items():
        ours, bm3d = mean("model_told", sigma), mean("bm3d", sigma)
        good &= ours["psnr"] >= asked and ours["seconds"] <= bm3d["seconds"] / 2
        print(f"sigma {sigma}: {ours['psnr']:.2f} dB (at least {asked}); {ours['seconds'] / bm3d['seconds']:.2f} of")
        print(f"  BM3D's time (at most 0.5), which makes {bm3d['psnr']:.2f} dB")
    return good


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
