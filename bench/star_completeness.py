#!/usr/bin/env python3
"""How many of a simulated frame's stars `limpid measure` finds, by their light, and what it finds beside them.

    limpid simulate --scene demo -o frame.fits --stars truth.csv
    limpid measure frame.fits --stars found.csv
    bench/star_completeness.py truth.csv found.csv

A star counts as found within 2 px, one that is found as false where no star is drawn within 2.5 px. Judged are stars
with no other drawn within 8 px. Light: sum of the channels, in units of the sky's noise.
"""
import csv
import math
import sys
from collections import defaultdict

CELL_PX = 8


def places(path, light_of):
    with open(path, newline="", encoding="ascii") as file:
        rows = {(float(row["x"]), float(row["y"])): light_of(row) for row in csv.DictReader(file)}
    return [(x, y, light) for (x, y), light in rows.items()]


class Places:
    def __init__(self, stars):
        self.cells = defaultdict(list)
        for star in stars:
            self.cells[self.cell(*star[:2])].append(star)

    @staticmethod
    def cell(x, y):
        return int(x // CELL_PX), int(y // CELL_PX)

    def within(self, x, y, radius_px):
        column, row = self.cell(x, y)
        near = (star for i in (-1, 0, 1) for j in (-1, 0, 1) for star in self.cells[column + i, row + j])
        return sum(math.hypot(star[0] - x, star[1] - y) <= radius_px for star in near)


def main():
    truth = places(sys.argv[1], lambda row: sum(float(row[f"flux_{c}"]) for c in (1, 2, 3) if f"flux_{c}" in row))
    found = places(sys.argv[2], lambda row: float(row["snr"]))
    drawn, seen = Places(truth), Places(found)
    alone = [star for star in truth if drawn.within(star[0], star[1], CELL_PX) == 1]
    limits = [0, 500, 750, 1000, 1500, 2500, 5000, math.inf]
    print("| light | stars | found, % |\n| --- | --- | --- |")
    for low, high in zip(limits, limits[1:]):
        group = [star for star in alone if low <= star[2] < high]
        share = sum(seen.within(x, y, 2) > 0 for x, y, _ in group) / max(1, len(group))
        print(f"| {low} to {high} | {len(group)} | {100 * share:.1f} |")
    false = sum(drawn.within(x, y, 2.5) == 0 for x, y, _ in found)
    print(f"\n{len(found)} found in all, {false} where no star is drawn")


if __name__ == "__main__":
    main()
