#!/usr/bin/python3
"""Compares limpid's image files with what astropy, tifffile and Siril make of them, bit by bit.

usage: crosscheck.py LIMPID     exit status: 0 same, 1 different, 77 astropy or tifffile missing

Debian's Python, for Debian's python3-astropy and python3-tifffile; Siril's part is skipped without
siril-cli. Starting limpid takes longer than a conversion, so files are converted in batches.
"""
import collections
import itertools
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

try:
    import numpy
    import tifffile
    from astropy.io import fits
except ImportError as missing:
    print(f"crosscheck: skipped, {missing}; Debian: python3-astropy python3-tifffile")
    sys.exit(77)

limpid = sys.argv[1]
checks = failures = 0


class Batches:
    """Conversions that wait until there are many of a kind."""

    def __init__(self, folder):
        self.folder = folder
        self.waiting = collections.defaultdict(list)
        self.count = 0

    def new_file(self, ending):
        self.count += 1
        return self.folder / f"{self.count:04}{ending}"

    def convert_again(self, path, target_format, packing, then):
        """Under a name of its own: a batch writes into one folder."""
        again = self.new_file(path.suffix)
        shutil.copy(path, again)
        self.convert(again, target_format, packing, then)

    def convert(self, source, target_format, packing, then):
        """Calls `then` with the path of the converted file, once run() is called."""
        self.waiting[target_format, packing].append((source, then))

    def run(self):
        while self.waiting:
            (target_format, packing), jobs = self.waiting.popitem()
            self.count += 1
            out = self.folder / f"{self.count:04}"
            subprocess.run([limpid, "convert", "-q", *(str(source) for source, _ in jobs), f"{out}/",
                            "--format", target_format, "--compress", packing],
                           check=True, stdout=subprocess.DEVNULL)
            for source, then in jobs:
                then(out / f"{source.stem}.{target_format}")


def check(name, expected, actual):
    global checks, failures
    checks += 1
    same = (expected.shape == actual.shape and expected.dtype.kind == actual.dtype.kind
            and expected.dtype.itemsize == actual.dtype.itemsize
            and numpy.array_equal(expected, actual, equal_nan=expected.dtype.kind == "f"))
    if not same:
        failures += 1
        print(f"DIFFERENT {name}: {expected.dtype} {expected.shape}, {actual.dtype} {actual.shape}")


def pixels(dtype, channels):
    """Noise over the whole range of the type; floats in ADU with negatives and NaN."""
    rng = numpy.random.default_rng(1)
    shape = (channels, 23, 37)
    if numpy.dtype(dtype).kind == "f":
        image = rng.normal(1000, 5000, shape).astype(dtype)
        image[0, 3, 4] = numpy.nan
        return image
    limits = numpy.iinfo(dtype)
    # limpid holds float32: 24 bits of each number survive.
    low, high = max(limits.min, -2**23), min(limits.max, 2**24)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


def read_xisf(path):
    """A reader of the plain and zlib files that limpid writes, from the text of the standard."""
    import xml.etree.ElementTree as tree
    data = path.read_bytes()
    assert data[:8] == b"XISF0100"
    length = struct.unpack("<I", data[8:12])[0]
    image = tree.fromstring(data[16:16 + length]).find("{http://www.pixinsight.com/xisf}Image")
    width, height, channels = map(int, image.get("geometry").split(":"))
    dtype = {"UInt8": "u1", "UInt16": "<u2", "UInt32": "<u4", "UInt64": "<u8",
             "Float32": "<f4", "Float64": "<f8"}[image.get("sampleFormat")]
    kind, position, size = image.get("location").split(":")
    assert kind == "attachment"
    block = data[int(position):int(position) + int(size)]
    packing = image.get("compression")
    if packing:
        codec, unpacked, *item = packing.split(":")
        block = zlib.decompress(block)
        assert len(block) == int(unpacked)
        if codec.endswith("+sh"):
            block = numpy.frombuffer(block, "u1").reshape(int(item[0]), -1).T.tobytes()
    return numpy.frombuffer(block, dtype).reshape(channels, height, width)


def squeezed(image):
    return image[0] if image.shape[0] == 1 else image


def fits_data(path):
    with fits.open(path) as hdus:
        hdus.verify("exception")
        return numpy.array(hdus[0].data if hdus[0].data is not None else hdus[1].data)


def check_fits(batches, dtype, channels):
    """astropy -> limpid -> astropy and our reader of XISF, plain and packed."""
    image = pixels(dtype, channels)
    original = squeezed(image)
    source = batches.new_file(".fits")
    fits.PrimaryHDU(original).writeto(source)
    packings = ["none", "zlib"]
    if original.dtype.kind != "f" and original.dtype.itemsize < 8:
        packings.append("rice")
    for packing in packings:
        name = f"FITS {dtype} {channels} {packing}"
        batches.convert(source, "fits", packing,
                        lambda path, name=name: check(name, original, fits_data(path)))
    if original.dtype.kind == "i":
        return  # XISF has no signed integers
    for packing in ["none", "zlib"]:
        name = f"XISF {dtype} {channels} {packing}"
        batches.convert(source, "xisf", packing,
                        lambda path, name=name: check(name, image, read_xisf(path)))


def check_packed_fits(batches, dtype, algorithm):
    """What astropy packs is what limpid reads."""
    source = batches.new_file(".fits")
    packed = fits.CompImageHDU(pixels(dtype, 1)[0], compression_type=algorithm,
                               quantize_level=16 if algorithm != "GZIP_2" else 0)
    packed.writeto(source)
    expected = fits_data(source)
    batches.convert(source, "fits", "none",
                    lambda path: check(f"packed FITS {dtype} {algorithm}", expected,
                                       fits_data(path)))


def check_tiff(batches, dtype, channels, compression, tiled, planar):
    """tifffile -> limpid -> tifffile."""
    image = pixels(dtype, channels)
    last = squeezed(image) if channels == 1 else numpy.moveaxis(image, 0, 2)
    layout = {"photometric": "rgb" if channels == 3 else "minisblack"}
    if channels == 3:
        layout["planarconfig"] = "separate" if planar else "contig"
    if tiled:
        layout["tile"] = (16, 16)
    source = batches.new_file(".tif")
    tifffile.imwrite(source, squeezed(image) if planar else last, metadata=None, **layout)
    name = f"TIFF {dtype} {channels} {compression} tiled={tiled} planar={planar}"

    def compare(path):
        check(name, last, tifffile.imread(path))

    def unpack(path):
        # Debian's tifffile cannot undo the predictor of floats: limpid unpacks its own file again.
        batches.convert_again(path, "tif", "none", compare)

    packed_floats = compression != "none" and image.dtype.kind == "f"
    batches.convert(source, "tif", compression, unpack if packed_floats else compare)


structure = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "BSCALE", "BZERO")


def check_header(batches):
    """Cards keep their order, values and comments, long strings included."""
    hdu = fits.PrimaryHDU(pixels("uint16", 1)[0])
    hdu.header["OBJECT"] = ("M 31, Andromeda's", "what it is")
    hdu.header["EXPTIME"] = (120.5, "[s]")
    hdu.header["CRVAL1"] = 10.684708333333333
    hdu.header["LONGTEXT"] = "x" * 150 + "'" + "y" * 40
    hdu.header["HIERARCH ESO DET WIN1 NX"] = 512
    hdu.header["FLAG"] = True
    hdu.header["COMMENT"] = "a comment"
    hdu.header["HISTORY"] = "as it was"
    source = batches.new_file(".fits")
    hdu.writeto(source)
    written = [card for card in fits.getheader(source).cards if card.keyword not in structure]

    def compare(path, through):
        fits_data(path)  # verifies
        cards = list(fits.getheader(path).cards)
        place = -1
        for card in written:
            found = [i for i, other in enumerate(cards) if other.keyword == card.keyword
                     and other.value == card.value]
            in_order = bool(found) and found[0] > place
            same = in_order and (not card.comment or cards[found[0]].comment == card.comment)
            check(f"card {card.keyword} through {through}", numpy.True_, numpy.bool_(same))
            place = found[0] if found else place

    def back_to_fits(through):
        return lambda path: batches.convert_again(path, "fits", "none",
                                                  lambda back: compare(back, through))

    batches.convert(source, "fits", "none", lambda path: compare(path, "fits"))
    batches.convert(source, "xisf", "none", back_to_fits("xisf"))
    batches.convert(source, "tif", "none", back_to_fits("tif"))


def siril(folder, commands):
    script = folder / "script.ssf"
    script.write_text("\n".join(["requires 1.0.0", "setext fits", *commands, ""]))
    subprocess.run(["siril-cli", "-d", str(folder), "-s", str(script)], check=True, timeout=120,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def check_siril(batches, dtype, channels):
    """limpid -> Siril, and Siril -> limpid. Siril turns a TIFF into the row order of FITS."""
    image = pixels(dtype, channels)
    if image.dtype.kind == "f":
        image = numpy.random.default_rng(2).random(image.shape, dtype=numpy.float32) * 1.5 - 0.25
    original = squeezed(image)
    source = batches.new_file(".fits")
    picture = batches.new_file(".tif")
    fits.PrimaryHDU(original).writeto(source)
    tifffile.imwrite(picture, squeezed(image) if channels == 1 else numpy.moveaxis(image, 0, 2),
                     photometric="rgb" if channels == 3 else "minisblack", metadata=None)
    save_tiff = "savetif32" if image.dtype.kind == "f" else "savetif"

    def from_fits(path):
        siril(path.parent, [f"load {path.name}", f"save siril-{path.stem}",
                            f"{save_tiff} siril-{path.stem}"])
        check(f"Siril reads FITS {dtype} {channels}", original,
              fits_data(path.parent / f"siril-{path.stem}.fits"))
        for ending, rows in ((".tif", slice(None, None, -1)), (".fits", slice(None))):
            written = path.parent / f"siril-{path.stem}{ending}"
            name = f"limpid reads what Siril writes {ending} {dtype} {channels}"
            batches.convert_again(written, "fits", "none",
                                  lambda read, name=name, rows=rows: check(
                                      name, original[..., rows, :], fits_data(read)))

    def from_tiff(path):
        siril(path.parent, [f"load {path.name}", f"save siril-tif-{path.stem}"])
        check(f"Siril reads TIFF {dtype} {channels}", original[..., ::-1, :],
              fits_data(path.parent / f"siril-tif-{path.stem}.fits"))

    batches.convert(source, "fits", "none", from_fits)
    batches.convert(picture, "tif", "none", from_tiff)


with tempfile.TemporaryDirectory() as name:
    all_batches = Batches(pathlib.Path(name))
    for dtype, channels in itertools.product(
            ["uint8", "int16", "uint16", "int32", "uint32", "float32"], [1, 3]):
        check_fits(all_batches, dtype, channels)
    for dtype, algorithm in itertools.product(["int16", "int32", "float32"],
                                              ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"]):
        check_packed_fits(all_batches, dtype, algorithm)
    for dtype, channels, compression, tiled, planar in itertools.product(
            ["uint8", "uint16", "int16", "uint32", "float16", "float32"], [1, 3],
            ["none", "zlib"], [False, True], [False, True]):
        check_tiff(all_batches, dtype, channels, compression, tiled, planar)
    check_header(all_batches)
    if shutil.which("siril-cli"):
        for dtype, channels in itertools.product(["uint16", "float32"], [1, 3]):
            check_siril(all_batches, dtype, channels)
    else:
        print("crosscheck: Siril's part skipped, no siril-cli; Debian: siril")
    all_batches.run()

print(f"crosscheck: {checks} comparisons, "
      + (f"{failures} differences" if failures else "the same to the last bit"))
sys.exit(1 if failures else 0)
