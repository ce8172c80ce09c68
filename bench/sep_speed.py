#!/usr/bin/python3
"""Times `limpid measure` against Python SEP on one simulated mono frame of 16 megapixels.

usage: sep_speed.py LIMPID [REPEATS]

Both start from the FITS file and run one after the other, REPEATS times (3); the medians and their
ratio are printed. SEP (Barbary 2016, the algorithms of Source Extractor) does what limpid does for
its table: background, detection, deblending, then per star Kron and aperture flux, half-light
radius and windowed centre. limpid fits a Moffat to every star and the PSF field beside that. SEP
uses one core; so does limpid with --threads 1, the second line. Needs Debian's python3-sep and
python3-astropy.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import sep
from astropy.io import fits

sep.set_extract_pixstack(4_000_000)  # the nebula fills the default one
limpid = sys.argv[1]
repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 3


def with_sep(path):
    frame = numpy.ascontiguousarray(fits.getdata(path).astype(numpy.float32))
    sky = sep.Background(frame, bw=64, bh=64)
    frame -= sky.back()
    stars = sep.extract(frame, 3.0, err=sky.globalrms)
    x, y = stars["x"], stars["y"]
    shape = stars["a"], stars["b"], stars["theta"]
    radius, _ = sep.kron_radius(frame, x, y, *shape, 6.0)
    sep.sum_ellipse(frame, x, y, *shape, 2.5 * numpy.maximum(radius, 1), err=sky.globalrms, subpix=1)
    flux, _, _ = sep.sum_circle(frame, x, y, 8.0, err=sky.globalrms)
    half, _ = sep.flux_radius(frame, x, y, 6 * stars["a"], 0.5, normflux=flux, subpix=5)
    sep.winpos(frame, x, y, numpy.maximum(half, 0.5) * 2 / 2.35)
    return len(stars)


def with_limpid(path, *options):
    said = subprocess.run([limpid, "measure", path, "--json", *options],
                          check=True, capture_output=True, env=os.environ).stdout
    return json.loads(said)["stars"]["detected"]


with tempfile.TemporaryDirectory() as folder:
    colour, mono = folder + "/colour.fits", folder + "/mono.fits"
    subprocess.run([limpid, "simulate", "--width", "4096", "--height", "4096", "--star-count", "7500",
                    "--quiet", "-o", colour], check=True, stdout=subprocess.DEVNULL)
    fits.writeto(mono, fits.getdata(colour)[1])
    os.remove(colour)
    ways = {"SEP": lambda: with_sep(mono),
            "limpid": lambda: with_limpid(mono),
            "limpid --threads 1": lambda: with_limpid(mono, "--threads", "1")}
    seconds = {name: [] for name in ways}
    found = {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - start)
    reference = statistics.median(seconds["SEP"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name}: {median:.2f} s, {median / reference:.2f} times SEP, {found[name]} objects")
