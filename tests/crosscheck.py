#!/usr/bin/python3
"""Compares limpid's image files with what astropy and tifffile make of them, bit by bit.

usage: crosscheck.py LIMPID     exit status: 0 same, 1 different, 77 astropy or tifffile missing
"""
import itertools
import pathlib
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
failures = 0


def convert(source, target, *options):
    subprocess.run([limpid, "convert", "-q", str(source), str(target), "--overwrite", *options],
                   check=True, stdout=subprocess.DEVNULL)


def check(name, expected, actual):
    global failures
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


def check_fits(folder, dtype, channels):
    """astropy -> limpid -> astropy, plain and packed."""
    original = squeezed(pixels(dtype, channels))
    fits.PrimaryHDU(original).writeto(folder / "a.fits", overwrite=True)
    packings = ["none", "zlib"] + (["rice"] if original.dtype.kind != "f"
                                   and original.dtype.itemsize < 8 else [])
    for packing in packings:
        convert(folder / "a.fits", folder / "b.fits", "--compress", packing)
        with fits.open(folder / "b.fits") as hdus:
            hdus.verify("exception")
            data = hdus[0].data if hdus[0].data is not None else hdus[1].data
            check(f"FITS {dtype} {channels} {packing}", original, data)


def check_packed_fits(folder, dtype, algorithm):
    """What astropy packs is what limpid reads."""
    original = pixels(dtype, 1)[0]
    packed = fits.CompImageHDU(original, compression_type=algorithm,
                               quantize_level=16 if algorithm != "GZIP_2" else 0)
    packed.writeto(folder / "a.fits", overwrite=True)
    with fits.open(folder / "a.fits") as hdus:
        expected = hdus[1].data.copy()
    convert(folder / "a.fits", folder / "b.fits")
    check(f"packed FITS {dtype} {algorithm}", expected, fits.getdata(folder / "b.fits"))


def check_tiff(folder, dtype, channels, compression, tiled, planar):
    """tifffile -> limpid -> tifffile."""
    image = pixels(dtype, channels)
    original = squeezed(image) if planar or channels == 1 else numpy.moveaxis(image, 0, 2)
    layout = {"photometric": "rgb" if channels == 3 else "minisblack"}
    if channels == 3:
        layout["planarconfig"] = "separate" if planar else "contig"
    if tiled:
        layout["tile"] = (16, 16)
    tifffile.imwrite(folder / "a.tif", original, metadata=None, **layout)
    convert(folder / "a.tif", folder / "b.tif", "--compress", compression)
    if compression != "none" and original.dtype.kind == "f":
        # Debian's tifffile cannot undo the predictor of floats: limpid unpacks its own file again.
        convert(folder / "b.tif", folder / "b.tif")
    data = tifffile.imread(folder / "b.tif")
    expected = squeezed(image) if channels == 1 else numpy.moveaxis(image, 0, 2)
    check(f"TIFF {dtype} {channels} {compression} tiled={tiled} planar={planar}", expected, data)


def check_xisf(folder, dtype, channels, packing):
    original = pixels(dtype, channels)
    fits.PrimaryHDU(squeezed(original)).writeto(folder / "a.fits", overwrite=True)
    convert(folder / "a.fits", folder / "a.xisf", "--compress", packing)
    check(f"XISF {dtype} {channels} {packing}", original, read_xisf(folder / "a.xisf"))


structure = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "BSCALE", "BZERO")


def check_header(folder):
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
    hdu.writeto(folder / "a.fits", overwrite=True)
    written = fits.getheader(folder / "a.fits").cards
    for path in ("b.xisf", "c.tif", "d.fits"):
        convert(folder / "a.fits", folder / path)
        if path != "d.fits":
            convert(folder / path, folder / "d.fits")
        with fits.open(folder / "d.fits") as hdus:
            hdus.verify("exception")
            for card in [card for card in written if card.keyword not in structure]:
                found = [other for other in hdus[0].header.cards
                         if other.keyword == card.keyword and other.value == card.value]
                if not found or (card.comment and found[0].comment != card.comment):
                    check(f"card {card.keyword} through {path}", numpy.ones(1), numpy.zeros(1))


with tempfile.TemporaryDirectory() as name:
    temporary = pathlib.Path(name)
    for dtype, channels in itertools.product(
            ["uint8", "int16", "uint16", "int32", "uint32", "float32"], [1, 3]):
        check_fits(temporary, dtype, channels)
    for dtype, algorithm in itertools.product(["int16", "int32", "float32"],
                                              ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"]):
        check_packed_fits(temporary, dtype, algorithm)
    for dtype, channels, compression, tiled, planar in itertools.product(
            ["uint8", "uint16", "int16", "uint32", "float16", "float32"], [1, 3],
            ["none", "zlib"], [False, True], [False, True]):
        check_tiff(temporary, dtype, channels, compression, tiled, planar)
    for dtype, channels, packing in itertools.product(["uint8", "uint16", "float32"], [1, 3],
                                                      ["none", "zlib"]):
        check_xisf(temporary, dtype, channels, packing)
    check_header(temporary)

print("crosscheck: " + (f"{failures} differences" if failures else "the same to the last bit"))
sys.exit(1 if failures else 0)
