#!/usr/bin/env bash
# Installs a build, moves what was installed, and builds other people's projects against it: one
# with CMake, one with pkg-config. Usage: consumer_test.sh BUILD-FOLDER COMPILER
set -euo pipefail

here=$(dirname "$(realpath "$0")")
build=$1
compiler=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/first" >"$work/log"
mv "$work/first" "$work/moved"
prefix=$work/moved

cmake -S "$here/consumer" -B "$work/cmake" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" \
  -DCMAKE_PREFIX_PATH="$prefix" >>"$work/log"
cmake --build "$work/cmake"
"$work/cmake/consumer"

pc=$(dirname "$(find "$prefix" -name limpid.pc)")
library=$(dirname "$(find "$prefix" -name liblimpid.so)")
flags=$(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs limpid)
# shellcheck disable=SC2086  # flags are words
"$compiler" -std=c++20 "$here/consumer/main.cpp" $flags -Wl,-rpath,"$library" -o "$work/consumer"
"$work/consumer"

"$prefix/bin/limpid" --version
