#!/usr/bin/python3
"""How many stars a result shows with a dark middle that the frame does not show.

    limpid measure frame.fits --stars stars.csv
    limpid deconvolve frame.fits -o result.fits
    bench/core_dents.py frame.fits result.fits stars.csv

A star's dent is how far the middle (the mean within 0.6 px) lies under the brightest of the rings 1
to 3 px away, over the brightest ring's light over the frame's median. Counted are stars whose dent is
over 2 % and 1 % deeper than the frame's own; the deepest are listed. Needs Debian's python3-astropy.
"""
import csv
import sys

import numpy
from astropy.io import fits

REACH = 5


def plane(path):
    pixels = numpy.asarray(fits.getdata(path), dtype=float)
    return pixels.mean(axis=0) if pixels.ndim == 3 else pixels


def dent(picture, x, y):
    column, row = round(x), round(y)
    if not (REACH < column < picture.shape[1] - REACH - 1 and
            REACH < row < picture.shape[0] - REACH - 1):
        return None
    stamp = picture[row - REACH:row + REACH + 1, column - REACH:column + REACH + 1]
    v, u = numpy.mgrid[-REACH:REACH + 1, -REACH:REACH + 1]
    away = numpy.hypot(u - (x - column), v - (y - row))
    rings = [stamp[abs(away - ring) <= 0.6].mean() for ring in range(REACH + 1)
             if (abs(away - ring) <= 0.6).any()]
    if len(rings) <= REACH:
        return None
    light = max(rings) - numpy.median(picture)
    return (max(rings[:4]) - rings[0]) / light if light > 0 else None


def main():
    frame, result = plane(sys.argv[1]), plane(sys.argv[2])
    places = {(float(row["x"]), float(row["y"])) for row in csv.DictReader(open(sys.argv[3]))}
    found, judged = [], 0
    for x, y in sorted(places):
        recorded, restored = dent(frame, x, y), dent(result, x, y)
        if recorded is None or restored is None:
            continue
        judged += 1
        if restored > 0.02 and restored > recorded + 0.01:
            found.append((restored - recorded, x, y))
    print(f"{len(found)} of {judged} stars with a dent that the frame has not")
    for depth, x, y in sorted(found, reverse=True)[:10]:
        print(f"  {100 * depth:.0f} % at {x:.1f}, {y:.1f}")


main()
