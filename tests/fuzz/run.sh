#!/usr/bin/env bash
# Fuzzes the readers with libFuzzer, AddressSanitizer and UBSan. Needs clang.
# Usage: run.sh LIMPID SECONDS [FORMAT...]     LIMPID makes the seeds; work stays in build/fuzz.
set -eu
limpid=$(realpath "$1")
seconds=$2
shift 2
formats=("$@")
[ ${#formats[@]} -gt 0 ] || formats=(fits xisf tiff)
root=$(realpath "$(dirname "$0")/../..")
work=$root/build/fuzz
mkdir -p "$work/objects"
cd "$work"

flags=(-std=c++20 -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link
  -fno-sanitize-recover=undefined -I"$root/include" -I"$root/src" -DLIMPID_VERSION='"fuzz"')
objects=()
for source in "$root"/src/io/*.cpp "$root"/src/core/image.cpp; do
  case $source in *_test.cpp) continue ;; esac
  object=objects/$(basename "$source" .cpp).o
  objects+=("$object")
  [ "$object" -nt "$source" ] || clang++ "${flags[@]}" -c "$source" -o "$object"
done

card() { printf '%-80s' "$1"; }
{
  card "SIMPLE  =                    T"
  card "BITPIX  =                   16"
  card "NAXIS   =                    3"
  card "NAXIS1  =                    9"
  card "NAXIS2  =                    7"
  card "NAXIS3  =                    3"
  card "BZERO   =                32768"
  card "OBJECT  = 'M 31    '           / what it is"
  card "END"
  printf '%2160s' ''
  printf 'limpid%.0s' {1..480}
} >seed.fits

seeds() {  # seeds FORMAT: a file of every kind that limpid writes
  mkdir -p "corpus-$1"
  local packing depth
  local ending=$1
  [ "$1" = tiff ] && ending=tif
  for packing in none zlib lz4 zstd rice; do
    for depth in u8 u16 f32; do
      "$limpid" convert -q seed.fits "corpus-$1/$packing-$depth.$ending" --overwrite \
        --compress $packing --depth $depth >/dev/null 2>&1 || true
    done
  done
}

for format in "${formats[@]}"; do
  seeds "$format"
  clang++ "${flags[@]}" -fsanitize=fuzzer -DLIMPID_FUZZ_FORMAT="\"$format\"" \
    "$root/tests/fuzz/fuzz_reader.cpp" "${objects[@]}" -o "fuzz-$format" \
    -lcfitsio -ltiff -lpng -ljpeg -lpugixml -llz4 -lzstd -lz -lcrypto
  ASAN_OPTIONS=allocator_may_return_null=1 "./fuzz-$format" "corpus-$format" \
    -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 -timeout=10 \
    -artifact_prefix="crash-$format-" -print_final_stats=1 -verbosity=0
done
