#!/usr/bin/python3
"""Whether `limpid mfdeconv --memory` is kept: makes 16-bit frames of one sky in a folder that it removes
afterwards, each with noise of its own (the same frame given twice counts once), runs one iteration and
compares the measured peak with the bound. TMPDIR says where the frames lie.

multiframe_memory.py LIMPID [FRAMES WIDTH HEIGHT MEMORY]      default: 100 6000 4000 4G (5 GB of disk)
Debian: python3-numpy"""
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np


def write_fits(path, frame):
    cards = ["SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    2",
             f"NAXIS1  = {frame.shape[1]:20}", f"NAXIS2  = {frame.shape[0]:20}", "BZERO   =                32768", "END"]
    header = "".join(card.ljust(80) for card in cards)
    data = (np.clip(frame, 0, 65535).astype(np.int32) - 32768).astype(">i2").tobytes()
    path.write_bytes(header.ljust(2880).encode() + data + bytes(-len(data) % 2880))


def stars(width, height, fwhm):
    random = np.random.default_rng(1)
    sky = np.zeros((height, width), np.float32)
    a = fwhm / (2 * np.sqrt(2 ** (1 / 3) - 1))
    reach = 24
    v, u = np.mgrid[-reach:reach + 1, -reach:reach + 1]
    for _ in range(width * height // 3000):
        x, y = random.integers(reach, width - reach), random.integers(reach, height - reach)
        light = 300 * 10 ** (2 * random.random())
        dx, dy = random.random(2) - 0.5
        star = (1 + ((u - dx) ** 2 + (v - dy) ** 2) / a**2) ** -3.0
        sky[y - reach:y + reach + 1, x - reach:x + reach + 1] += (light * star).astype(np.float32)
    return sky


def main():
    limpid = sys.argv[1]
    count, width, height = (int(a) for a in (sys.argv[2:5] + ["100", "6000", "4000"][len(sys.argv[2:5]):]))
    memory = sys.argv[5] if len(sys.argv) > 5 else "4G"
    bound = float(memory[:-1]) * {"M": 1e6, "G": 1e9}[memory[-1]]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        skies = [stars(width, height, fwhm) for fwhm in (2.6, 3.4, 4.4)]
        random = np.random.default_rng(2)
        noise = 20 * random.standard_normal(2 * width * height, np.float32)
        for i in range(count):
            path = folder / f"frame-{i:03}.fits"
            # other noise in each frame: a part of a long list that begins elsewhere
            begin = random.integers(width * height)
            frame = skies[i % 3] + 1000 + noise[begin:begin + width * height].reshape(height, width)
            write_fits(path, frame)
        del skies, noise
        start = time.time()
        result = subprocess.run([limpid, "mfdeconv", *map(str, sorted(folder.glob("frame-*.fits"))), "-o",
                                 str(folder / "out.fits"), "--iterations", "1", "--memory", memory, "--json"],
                                capture_output=True, text=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
        if result.returncode != 0:
            sys.exit(result.stderr)
        for line in result.stdout.splitlines():
            if any(f'"{key}"' in line for key in ("frames_used", "tiles", "frames_at_once", "frames_in_memory",
                                                  "measure_seconds", "seed_seconds", "solve_seconds")):
                print(line.strip())
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        print(f"{count} frames of {width} x {height}: peak {peak / 1e6:.0f} MB of {bound / 1e6:.0f} "
              f"({peak / bound:.2f}), {time.time() - start:.0f} s for one iteration and all before it")
        sys.exit(0 if peak < 1.1 * bound else 1)


if __name__ == "__main__":
    main()
