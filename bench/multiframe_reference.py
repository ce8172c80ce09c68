#!/usr/bin/python3
"""The update of `limpid mfdeconv` as one would write it down first, with scipy's fftconvolve.

multiframe_reference.py [SIDE FRAMES ITERATIONS]   what it takes per frame and iteration
multiframe_reference.py --agree FOLDER             repeats what limpid_multiframe_agreement wrote there;
                                                   exit status 1 when they differ by over 1e-4

Debian: python3-scipy. The same update in C++: build/release/bench/limpid_multiframe_bench."""
import pathlib
import sys
import time

import numpy as np
from scipy.ndimage import label, sum_labels, uniform_filter
from scipy.signal import fftconvolve


def moffat(side, fwhm, beta=3.0):
    a = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    v, u = np.mgrid[:side, :side] - side // 2
    kernel = (1 + (u * u + v * v) / a**2) ** -beta
    return kernel / kernel.sum()


def bright_parts(seed, pedestal, sigma):
    """Numbers of the parts of the seed that show light, from 1 on; 0 is sky."""
    count = uniform_filter(np.ones_like(seed), 5, mode="constant")
    mean = uniform_filter(seed - pedestal, 5, mode="constant") / count
    return label((seed > pedestal + 5 * sigma) | (mean > sigma))[0]


def lift(x, parts, darkest, level):
    """Rings of stars are raised to the darkest; their own part pays for it."""
    numbers = np.arange(parts.max() + 1)
    lacking = sum_labels(np.maximum(darkest - x, 0), parts, numbers)
    over = sum_labels(np.maximum(x - level, 0), parts, numbers)
    kept = np.where((lacking > 0) & (over > lacking), 1 - lacking / np.maximum(over, 1e-30), 1)[parts]
    lifted = np.where(x > level, level + (x - level) * kept, np.maximum(x, darkest))
    return np.where(parts > 0, lifted, x)


def update(x, frames, kernels, sigmas, noise, pedestal, parts=None, darkest=0, delta=2.5, reject=6.0, kappa=2.0,
           relax=0.7):
    """x reaches one kernel beyond the frames. noise: floor, shot and misfit of each frame."""
    numerator, denominator = np.zeros_like(x), np.zeros_like(x)
    for y, kernel, sigma, (level, shot, misfit) in zip(frames, kernels, sigmas, noise):
        predicted = fftconvolve(x, kernel, mode="valid")
        light = np.maximum(predicted - pedestal, 0)
        residual = np.abs(y - predicted)
        variance = np.clip(level, 0.1, 10) * sigma**2
        typical = np.sqrt(variance + shot * light * sigma + (misfit * light) ** 2)
        weight = np.minimum(1, delta * typical / np.maximum(residual, 1e-12))
        weight[residual > reject * typical] = 0
        weight /= variance + light * sigma / pedestal
        known = np.isfinite(y)
        mirrored = kernel[::-1, ::-1]
        numerator += fftconvolve(np.where(known, weight * y, 0), mirrored, mode="full")
        denominator += fftconvolve(np.where(known, weight * predicted, 0), mirrored, mode="full")
    epsilon = 1e-3 * pedestal * np.sum(1 / np.square(sigmas))
    ratio = np.clip((numerator + epsilon) / (np.maximum(denominator, 0) + epsilon), 1 / kappa, kappa)
    x = x * (1 + relax * (ratio - 1))
    return x if parts is None else lift(x, parts, darkest, pedestal)


def agree(folder):
    side, count, iterations, reach, pedestal = (folder / "set.txt").read_text().split()
    side, count, iterations, reach, pedestal = int(side), int(count), int(iterations), int(reach), float(pedestal)
    canvas = side + 2 * reach

    def load(name, *shape):
        return np.fromfile(folder / name, np.float32).astype(float).reshape(shape)

    frames = [load(f"frame-{i}", side, side) for i in range(count)]
    kernels = [load(f"kernel-{i}", 2 * reach + 1, 2 * reach + 1) for i in range(count)]
    sigmas = load("sigmas", count)
    x = load("estimate-0", canvas, canvas)
    noise_of_stack = 1 / np.sqrt(count)
    parts = bright_parts(x, pedestal, noise_of_stack)
    worst = 0
    for i in range(1, iterations + 1):
        x = update(x, frames, kernels, sigmas, load(f"noise-{i - 1}", count, 3), pedestal, parts,
                   pedestal - 0.5 * noise_of_stack)
        limpid = load(f"estimate-{i}", canvas, canvas)
        # the result; in the margin, where few data speak, single precision differs by some 1e-4
        inside = (slice(reach, -reach), slice(reach, -reach))
        true, difference = x[inside], np.abs(limpid - x)[inside]
        relative = (difference / true).max()
        worst = max(worst, relative)
        print(f"iteration {i}: largest difference {difference.max() / true.max():.1e} of the brightest pixel, "
              f"{relative:.1e} of the pixel itself")
    return 0 if worst < 1e-4 else 1


def measure(side, count, iterations):
    random = np.random.default_rng(1)
    sky = np.zeros((side, side))
    for x, y in random.integers(20, side - 20, (side * side // 3600, 2)):
        sky[y, x] = 5000 * random.random()
    kernels = [moffat(65, fwhm) for fwhm in np.linspace(2.4, 6, count)]
    frames = [fftconvolve(sky, k, mode="same") + 2.5 + random.normal(size=sky.shape) for k in kernels]
    estimate = np.pad(np.maximum(np.mean(frames, axis=0), 0.1), 32, mode="reflect")
    best = 1e9
    for _ in range(iterations):
        start = time.process_time()
        estimate = update(estimate, frames, kernels, np.ones(count), [(1, 0, 0.1)] * count, 2.5)
        best = min(best, time.process_time() - start)
    print(f"{count} frames of {side} x {side}: {best / count:.4f} s of the processor per frame and iteration, best of {iterations}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--agree"]:
        sys.exit(agree(pathlib.Path(sys.argv[2])))
    sys.exit(measure(*(int(a) for a in (sys.argv[1:] + ["1024", "8", "3"][len(sys.argv) - 1:]))))
