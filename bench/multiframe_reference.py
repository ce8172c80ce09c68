#!/usr/bin/env python3
"""The update of `limpid mfdeconv` as one would write it down first, with scipy's fftconvolve, and
what it takes per frame and iteration. python3 bench/multiframe_reference.py [SIDE FRAMES ITERATIONS]
Debian: python3-scipy. The same update in C++: build/release/bench/limpid_multiframe_bench."""
import sys
import time

import numpy as np
from scipy.signal import fftconvolve


def moffat(side, fwhm, beta=3.0):
    a = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    v, u = np.mgrid[:side, :side] - side // 2
    kernel = (1 + (u * u + v * v) / a**2) ** -beta
    return kernel / kernel.sum()


def update(x, frames, kernels, sigma=1.0, delta=2.5, reject=6.0, misfit=0.1, pedestal=2.5, kappa=2.0,
           relax=0.7):
    numerator, denominator = np.zeros_like(x), np.zeros_like(x)
    for y, kernel in zip(frames, kernels):
        predicted = fftconvolve(x, kernel, mode="same")
        light = np.maximum(predicted - pedestal, 0)
        residual = y - predicted
        typical = np.sqrt(sigma**2 + (misfit * light) ** 2)
        weight = np.minimum(1, delta * typical / np.maximum(np.abs(residual), 1e-12))
        weight[np.abs(residual) > reject * typical] = 0
        weight /= sigma**2 + light / pedestal
        mirrored = kernel[::-1, ::-1]
        numerator += fftconvolve(weight * y, mirrored, mode="same")
        denominator += fftconvolve(weight * predicted, mirrored, mode="same")
    ratio = np.clip(numerator / (denominator + 1e-9), 1 / kappa, kappa)
    return x * (1 + relax * (ratio - 1))


def main():
    side, count, iterations = (int(a) for a in (sys.argv[1:] + ["1024", "8", "3"][len(sys.argv) - 1:]))
    random = np.random.default_rng(1)
    sky = np.zeros((side, side))
    for x, y in random.integers(20, side - 20, (side * side // 3600, 2)):
        sky[y, x] = 5000 * random.random()
    kernels = [moffat(65, fwhm) for fwhm in np.linspace(2.4, 6, count)]
    frames = [fftconvolve(sky, k, mode="same") + 2.5 + random.normal(size=sky.shape) for k in kernels]
    estimate = np.maximum(np.mean(frames, axis=0), 0.1)
    best = 1e9
    for _ in range(iterations):
        start = time.perf_counter()
        estimate = update(estimate, frames, kernels)
        best = min(best, time.perf_counter() - start)
    print(f"{count} frames of {side} x {side}: {best / count:.4f} s per frame and iteration, best of {iterations}")


if __name__ == "__main__":
    main()
