#!/usr/bin/env bash
# Fuzzes the readers with libFuzzer, AddressSanitizer and UBSan. Needs clang; builds the readers
# alone. What is interesting is kept in build/fuzz/corpus-FORMAT: a later run goes on from there.
# Usage: run.sh LIMPID SECONDS [FORMAT...]     LIMPID makes the seeds.
# Formats: fits xisf tiff safetensors (all four without one), png, jpeg.
set -eu
limpid=$(realpath "$1")
seconds=$2
shift 2
formats=("$@")
[ ${#formats[@]} -gt 0 ] || formats=(fits xisf tiff safetensors)
root=$(realpath "$(dirname "$0")/../..")
work=$root/build/fuzz
conformance=$root/../shared/data/conformance
mkdir -p "$work/objects"
cd "$work"

flags=(-std=c++20 -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined
  -fno-sanitize-recover=undefined -I"$root/include" -I"$root/src" -DLIMPID_VERSION='"fuzz"')

compile() { # compile SOURCE: to objects/, where the source is newer
  local object coverage=-fsanitize=fuzzer-no-link
  object=objects/$(basename "$1" .cpp).o
  # the loops over samples have few ways to go, and watching them costs half the speed
  case $1 in */samples.cpp) coverage= ;; esac
  # shellcheck disable=SC2086  # no word where there is none
  [ "$object" -nt "$1" ] || clang++ "${flags[@]}" $coverage -c "$1" -o "$object"
}

build_reader() { # build_reader FORMAT
  local source objects=()
  for source in "$root"/src/io/*.cpp "$root"/src/core/image.cpp "$root"/src/core/parallel.cpp; do
    case $source in *_test.cpp) continue ;; esac
    compile "$source"
    objects+=("objects/$(basename "$source" .cpp).o")
  done
  clang++ "${flags[@]}" -fsanitize=fuzzer -DLIMPID_FUZZ_FORMAT="\"$1\"" \
    "$root/tests/fuzz/fuzz_reader.cpp" "${objects[@]}" -o "fuzz-$1" \
    -lcfitsio -ltiff -lpng -ljpeg -lpugixml -llz4 -lzstd -lz -lcrypto -lpthread
}

build_safetensors() { # the part that reads the header: clang 14 does not take LibTorch in C++20
  compile "$root/src/nn/safetensors.cpp"
  clang++ "${flags[@]}" -fsanitize=fuzzer "$root/tests/fuzz/fuzz_safetensors.cpp" \
    objects/safetensors.o -o fuzz-safetensors
}

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

seed_images() { # seed_images ENDING FOLDER: a file of every kind that limpid writes
  local packing depth checksum checksums=none
  [ "$1" = xisf ] && checksums="none sha-1"
  for packing in none zlib lz4 zstd rice lzw; do
    for depth in u8 u16 f32; do
      for checksum in $checksums; do
        "$limpid" convert -q seed.fits "$2/$packing-$depth-$checksum.$1" --overwrite \
          --compress $packing --depth $depth --checksum $checksum >/dev/null 2>&1 || true
      done
    done
  done
}

safetensors() { # safetensors HEADER DATA
  local length=${#1} shift
  for shift in 0 8 16 24 32 40 48 56; do
    # shellcheck disable=SC2059  # the format is the byte
    printf "\\x$(printf %02x $((length >> shift & 255)))"
  done
  printf '%s%s' "$1" "$2"
}

seeds() { # seeds FORMAT: files of limpid, and small ones of other programs when they are there
  local folder=corpus-$1 ending=$1
  mkdir -p "$folder"
  case $1 in
    safetensors)
      safetensors '{"__metadata__":{"name":"seed"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"F16","shape":[0,3],"data_offsets":[16,16]}}' \
        limpidlimpidlimp >"$folder/seed"
      return
      ;;
    tiff) ending=tif ;;
  esac
  seed_images "$ending" "$folder"
  find "$conformance" -name "*.$ending*" -size -64k -exec cp -t "$folder" {} + 2>/dev/null || true
  chmod -R u+w "$folder"
}

echo leak:libcfitsio >leaks # eight bytes of its own for some damaged tiles
for format in "${formats[@]}"; do
  seeds "$format"
  if [ "$format" = safetensors ]; then build_safetensors; else build_reader "$format"; fi
  LSAN_OPTIONS=suppressions=leaks:print_suppressions=0 \
    ASAN_OPTIONS=allocator_may_return_null=1 "./fuzz-$format" "corpus-$format" \
    -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 -timeout=10 \
    -artifact_prefix="crash-$format-" -print_final_stats=1 -verbosity=0
done
