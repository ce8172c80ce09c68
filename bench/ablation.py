#!/usr/bin/env python3
"""Networks trained from scratch for the same processor time, and what they came to.

Usage: ablation.py LIMPID CORPUS FOLDER [--seconds 600] [--only NAME]... [--judge NAME=WEIGHTS]...

Every variant changes one line of the base configuration, is tried for some steps to learn what one
costs, and gets as many as it can pay (one core, loading included; a run that is there is not made
again). All are judged on the same held-out scenes by `limpid evaluate --network-only`. --judge adds
weights that were made in another way, such as with a constant of the source changed.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

BASE = {
    "name": '"ablation"', "architecture": '"guided_unet"', "widths": "[96, 128]",
    "blocks": "[0, 1, 1]", "batch": "8", "patch_px": "192", "learning_rate": "1e-3",
    "final_learning_rate": "2e-5", "warm_up_steps": "100", "decay_fraction": "0.5",
    "weight_average": "0.99", "gradient_clip": "1.0", "relative_weight": "0.008",
    "flux_weight": "1.0", "slope_weight": "0.25", "large_error_weight": "2.0",
    "scene_floor": "0.02", "reuse": "8", "psf_bank": "256", "seed": "21", "loader_threads": "1",
    "precision": '"bf16"', "checkpoint_minutes": "60",
}
VARIANTS = {
    "base": {},
    "another seed": {"seed": "22"},
    "widths 64, 96": {"widths": "[64, 96]"},
    "widths 128, 192": {"widths": "[128, 192]"},
    "two blocks in the middle": {"blocks": "[0, 2, 1]"},
    "no block in the middle": {"blocks": "[0, 0, 1]"},
    "no squares of errors (L1)": {"large_error_weight": "0.0"},
    "no flux term": {"flux_weight": "0.0"},
    "flux at four sizes": {"flux_levels": "4"},
    "weights averaged over 1,000 steps": {"weight_average": "0.999"},
}
# As many steps as tell what one costs, and what starting costs.
FEW, MORE = 12, 42


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("limpid", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--only", action="append", choices=VARIANTS)
    parser.add_argument("--judge", action="append", default=[], metavar="NAME=WEIGHTS")
    return parser.parse_args()


def run(command):
    """Runs it on one core; returns what it printed and the processor time it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(["taskset", "-c", str(max(os.sched_getaffinity(0)))] + command,
                          env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
                          stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"ablation: {' '.join(command)} ended with {done.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def file_of(o, name, ending):
    return o.folder / (name.replace(" ", "-").replace(",", "") + ending)


def train(o, name):
    weights = file_of(o, name, ".safetensors")
    about = weights.with_suffix(".json")
    if about.exists():
        return weights, json.loads(about.read_text())

    def steps(count):
        config = weights.with_suffix(".toml")
        lines = BASE | VARIANTS[name] | {"steps": str(count)}
        config.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        return run([str(o.limpid), "train", str(config), "--corpus", str(o.corpus), "-o",
                    str(weights), "--overwrite", "--threads", "1", "-q"])[1]

    few, more = steps(FEW), steps(MORE)
    step = (more - few) / (MORE - FEW)
    count = int((o.seconds - (few - FEW * step)) / step)
    figures = {"steps": count, "seconds": steps(count)}
    about.write_text(json.dumps(figures))
    return weights, figures


def judge(o, name, weights):
    """Means over the rows of `limpid evaluate`."""
    table = file_of(o, name, ".evaluation.json")
    if not table.exists():
        table.write_text(run([str(o.limpid), "evaluate", str(weights), "--corpus", str(o.corpus),
                              "--scenes", str(o.scenes), "--network-only", "--threads", "1", "-q",
                              "--json"])[0])
    rows = json.loads(table.read_text())
    def mean(of):
        return statistics.fmean(of)
    nebulae = [r for r in rows["nonstellar"] if "cluster" not in r["class"]]
    stars = [r for r in rows["stars"] if "S/N about 20" not in r["class"]]
    clipped = rows["clipped"]
    return {
        "nebulae, dB": mean(r["network_db"]["value"] for r in nebulae),
        "width off by, %": 100 * mean(abs(r["fwhm_achieved_over_asked"]["value"] - 1) for r in stars),
        "light off by, %": 100 * mean(abs(r["flux_to_wanted"]["value"]) for r in stars),
        "ellipticity": mean(r["ellipticity_after"]["value"] for r in stars),
        "clipped, dB": mean(r["gain_db"]["value"] for r in clipped),
        "noise, sigma": rows["noise_change_sigma"]["value"],
    }


def main():
    o = arguments()
    o.folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name in o.only or VARIANTS:
        weights, figures = train(o, name)
        results.append((name, figures, judge(o, name, weights)))
    for given in o.judge:
        name, path = given.split("=", 1)
        results.append((name, None, judge(o, name, Path(path))))
    heads = list(results[0][2])
    print("| variant | steps | processor, s | " + " | ".join(heads) + " |")
    print("| --- | --- | --- |" + " --- |" * len(heads))
    for name, figures, got in results:
        made = f"{figures['steps']} | {figures['seconds']:.0f}" if figures else "- | -"
        print(f"| {name} | {made} | " + " | ".join(
            f"{got[h]:.3f}" if h in ("ellipticity", "noise, sigma") else f"{got[h]:.2f}"
            for h in heads) + " |")


main()
