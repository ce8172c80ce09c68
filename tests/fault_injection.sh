#!/usr/bin/env bash
# Writes that go wrong: a full disk, a read-only folder, signals in the middle, an output that is
# the input. The old file must stay whole, the exit code be right, and nothing be left behind.
# Usage: fault_injection.sh LIMPID     The full disk needs the right to mount; skipped without it.
set -u
export LC_ALL=C.UTF-8

limpid=$(realpath "$1")
work=$(mktemp -d)
mounted=
cleanup() {
  [ -n "$mounted" ] && umount "$mounted"
  chmod -R u+w "$work"
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
failures=0

check() {  # check WHAT CONDITION...
  local what=$1
  shift
  if ! "$@"; then
    failures=$((failures + 1))
    echo "FAILED: $what"
  fi
}

card() { printf '%-80s' "$1"; }
make_fits() {  # make_fits FILE WIDTH HEIGHT: 32-bit floats, all zero
  {
    card "SIMPLE  =                    T"
    card "BITPIX  =                  -32"
    card "NAXIS   =                    2"
    card "NAXIS1  = $2"
    card "NAXIS2  = $3"
    card "END"
    printf '%2400s' ''
    head -c $(($2 * $3 * 4)) /dev/zero
  } >"$1"
}
make_fits small.fits 100 100
make_fits large.fits 6000 4000

litter() { find "$1" -mindepth 1 ! -name "${2:-none}" | grep -q .; }
clean() { ! litter "$@"; }
old() { [ "$(head -c 4 "$1")" = old ]; }
# killed between the last step of the write and its own end, the program leaves the new file
old_or_whole() { old "$1" || "$limpid" convert -q "$1" read_again.tif --overwrite >/dev/null; }

endings="fits xisf tif png"

full_disk() {
  mkdir disk
  if ! mount -t tmpfs -o size=256k tmpfs disk 2>/dev/null; then
    echo "full disk: skipped, no right to mount a small tmpfs"
    return
  fi
  mounted=$work/disk
  for ending in $endings; do
    # Noise does not pack: every format needs more than the disk has.
    head -c 4000000 /dev/urandom >noise.raw
    {
      card "SIMPLE  =                    T"
      card "BITPIX  =                   16"
      card "NAXIS   =                    2"
      card "NAXIS1  =                 1000"
      card "NAXIS2  =                 1000"
      card "BZERO   =                32768"
      card "END"
      printf '%2320s' ''
      head -c 2000000 noise.raw
    } >noise.fits
    echo old >"disk/a.$ending"
    "$limpid" convert -q noise.fits "disk/a.$ending" --overwrite 2>err
    check "full disk, $ending: exit code 4" test $? -eq 4
    check "full disk, $ending: one line" test "$(wc -l <err)" -eq 1
    check "full disk, $ending: the old file is whole" old "disk/a.$ending"
    check "full disk, $ending: no litter" clean disk "a.$ending"
    rm "disk/a.$ending"
  done
}

read_only_folder() {
  mkdir locked
  chmod a-w locked
  local run=()
  if [ "$(id -u)" -eq 0 ]; then
    # The superuser may write everywhere; nobody may not.
    command -v setpriv >/dev/null || { echo "read-only folder: skipped, no setpriv"; return; }
    chmod a+rx "$work"
    run=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    "${run[@]}" test -x "$limpid" || { echo "read-only folder: skipped, out of reach"; return; }
  fi
  "${run[@]}" "$limpid" convert -q small.fits locked/a.xisf 2>err
  check "read-only folder: exit code 4" test $? -eq 4
  check "read-only folder: no litter" clean locked
}

signals() {  # signals NAME CODE: kills at moments spread over a whole write, however long it takes here
  local name=$1 code=$2 got hits=0 start delay
  mkdir -p "at_$name"
  for ending in $endings; do
    start=$(date +%s%N)
    "$limpid" convert -q large.fits "at_$name/whole.$ending" >/dev/null
    local milliseconds=$((($(date +%s%N) - start) / 1000000))
    rm "at_$name/whole.$ending"
    for share in 10 25 40 50 60 70 80 90 97; do
      delay=$((milliseconds * share / 100))
      delay=$((delay / 1000)).$(printf '%03d' $((delay % 1000)))
      local target=at_$name/a.$ending
      echo old >"$target"
      "$limpid" convert -q large.fits "$target" --overwrite >/dev/null 2>&1 &
      local child=$!
      sleep "$delay"
      kill "-$name" "$child" 2>/dev/null
      wait "$child"
      got=$?
      if [ "$got" -eq "$code" ]; then
        hits=$((hits + 1))
        check "$name after $delay s, $ending: the old file is whole, or the new one" old_or_whole "$target"
      else
        check "$name after $delay s, $ending: done, not code $got" test "$got" -eq 0
        check "$name after $delay s, $ending: readable" "$limpid" info -q "$target" >/dev/null
      fi
      check "$name after $delay s, $ending: no litter" clean "at_$name" "a.$ending"
      rm "$target"
    done
  done 2>/dev/null
  echo "$name: $hits of 36 writes were interrupted"
  check "$name: some writes were interrupted" test "$hits" -gt 0
}

output_is_input() {
  for ending in $endings; do
    "$limpid" convert -q small.fits "same.$ending" || check "make same.$ending" false
    cp "same.$ending" before
    "$limpid" convert -q "same.$ending" "same.$ending" 2>/dev/null
    check "output is input, $ending: refused without --overwrite" test $? -eq 4
    check "output is input, $ending: untouched" cmp -s before "same.$ending"
    "$limpid" convert -q "same.$ending" "same.$ending" --overwrite
    check "output is input, $ending: done with --overwrite" test $? -eq 0
    check "output is input, $ending: readable" "$limpid" info -q "same.$ending" >/dev/null
  done
}

full_disk
read_only_folder
signals KILL 137
signals INT 130
output_is_input
if [ "$failures" -eq 0 ]; then echo "fault injection: all right"; else exit 1; fi
