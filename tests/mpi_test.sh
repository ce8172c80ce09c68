#!/usr/bin/env bash
# limpid mfdeconv and train on several processes: the same result, one voice, one end.
# Usage: mpi_test.sh LIMPID MPIRUN
set -u
export LC_ALL=C.UTF-8 OMP_NUM_THREADS=1

limpid=$(realpath "$1")
mpirun=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
checks=0

check() {  # check WHAT CONDITION...
  local what=$1
  shift
  checks=$((checks + 1))
  if ! "$@"; then
    failures=$((failures + 1))
    echo "FAILED: $what"
    echo "  stdout: $(head -c 300 out)"
    echo "  stderr: $(head -c 600 err)"
  fi
}

[ -x "$limpid" ] || exit 1
# ranks are few and share two cores; containers run as root and forbid reading each other's memory
launch=("$mpirun" --oversubscribe --allow-run-as-root --bind-to none --mca btl_vader_single_copy_mechanism none)

expect() {  # expect CODE RANKS ARGUMENT...: keeps the streams in `out` and `err`
  local code=$1 ranks=$2 got=0
  shift 2
  timeout 300 "${launch[@]}" -n "$ranks" "$limpid" mfdeconv "$@" >out 2>err || got=$?
  check "mpirun -n $ranks limpid mfdeconv $* exits with $code, not $got" test "$got" -eq "$code"
}

pixels() { tail -c $((3 * 256 * 256 * 4)) "$1"; }
# the largest difference of two results over the brightest pixel
difference() {
  paste <(pixels "$1" | od -An -v -t f4 -w4 --endian=big) <(pixels "$2" | od -An -v -t f4 -w4 --endian=big) |
    awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d; if ($1 > top) top = $1 }
         END { print worst / top }'
}
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'; }

# one sky in four blurs
mkdir lights
for fwhm in 2.6 3.0 3.4 3.8; do
  "$limpid" simulate -q --width 256 --height 256 --star-count 300 --fwhm "$fwhm" -o "lights/$fwhm.fits"
done
printf 'not an image' >lights/broken.fits
cp lights/2.6.fits lights/twin.fits
"$limpid" simulate -q --width 256 --height 256 --star-count 0 --seed 7 -o lights/elsewhere.fits >out

run=(lights/*.fits --iterations 6 --min-iterations 6 --variance-maps --psf-grid 2)
"$limpid" mfdeconv "${run[@]}" -o one.fits >out 2>err
for ranks in 2 3; do
  expect 0 $ranks "${run[@]}" -o $ranks.fits --json --report report.json --overwrite
  check "$ranks ranks print one object" test "$(grep -c '^{' out)" -eq 1
  check "the broken frame is named once" test "$(grep -c broken.fits err)" -eq 1
  for name in twin elsewhere; do
    check "$name is named once" test "$(grep -c "$name.fits: left out" err)" -eq 1
  done
  check "four frames are used" grep -q '"frames_used": 4' report.json
  found=$(difference one.fits $ranks.fits)
  check "$ranks ranks give the result of one to 1e-5: $found" below "$found" 1e-5
done

# what goes wrong on one rank or on all ends all of them, and is told once
expect 4 2 "${run[@]}" -o 2.fits
check "only the first rank speaks" test "$(grep -c '^limpid: ' err)" -eq 1
expect 3 2 lights/2.6.fits lights/broken.fits -o none.fits
expect 5 2 "${run[@]}" -o none.fits --memory 1M
expect 2 2 "${run[@]}" -o none.fits --resume
check "no output of a run that failed" test ! -e none.fits

# Ctrl-C at any rank, and at mpirun itself
forever=(lights/*.fits --iterations 1000 --min-iterations 1000 --checkpoint state -o none.fits)
begin() {
  rm -rf state
  "${launch[@]}" -n 2 "$limpid" mfdeconv "${forever[@]}" >out 2>err &
  launcher=$!
  for _ in $(seq 600); do
    [ -e state/mfdeconv-checkpoint.fits ] || ! kill -0 "$launcher" 2>/dev/null && break
    sleep 0.1
  done
}
for rank in 0 1; do
  begin
  for child in $(pgrep -P "$launcher"); do
    grep -qz "OMPI_COMM_WORLD_RANK=$rank" "/proc/$child/environ" && kill -INT "$child"
  done
  wait "$launcher"
  check "Ctrl-C at rank $rank is exit code 130" test $? -eq 130
  check "rank $rank stopped: no output" test ! -e none.fits
done
begin
kill -INT "$launcher"
wait "$launcher"
check "Ctrl-C at mpirun ends the run with an error" test $? -ne 0
check "mpirun stopped: no output" test ! -e none.fits

# killed, and taken up again
forever=(lights/*.fits --iterations 60 --min-iterations 60)
expect 0 2 "${forever[@]}" -o through.fits
forever+=(--checkpoint state -o resumed.fits)
begin
kill -KILL "$(pgrep -P "$launcher" | head -n 1)"
wait "$launcher"
check "a rank that dies ends the others" test $? -ne 0
check "it left a checkpoint and no output" test -s state/mfdeconv-checkpoint.fits -a ! -e resumed.fits
expect 0 2 "${forever[@]}" --resume
check "the run went on where it was killed" grep -q 'going on after iteration' err
check "a resumed run gives the same pixels" cmp -s <(pixels through.fits) <(pixels resumed.fits)
check "the checkpoint is gone after the run" test ! -e state
# a frame of the second rank that cannot be read any more in the middle of the run
mkdir going
for fwhm in 2.6 3.0 3.4 3.8 4.2 4.6; do
  "$limpid" simulate -q --width 768 --height 768 --star-count 900 --fwhm "$fwhm" -o "going/$fwhm.fits" >out
done
forever=(going/*.fits --iterations 12 --min-iterations 12 --memory 125M --checkpoint state -o gone.fits --report gone.json)
begin
truncate -s 1000000 going/3.0.fits going/3.8.fits
wait "$launcher"
check "ranks that lose frames go on" test $? -eq 0
check "what is lost is named once" test "$(grep -c 'going/3.[08].fits: left out, became unreadable' err)" -eq 2
check "frames were read by parts" grep -q '"frames_in_memory": false' gone.json
check "the others are used" grep -q '"frames_used": 4' gone.json
check "all iterations were made" test "$(grep -c '"iteration":' gone.json)" -eq 12
rm -f gone.*
for fwhm in 3.0 3.8; do
  "$limpid" simulate -q --width 768 --height 768 --star-count 900 --fwhm "$fwhm" -o "going/$fwhm.fits" --overwrite >out
done
begin
truncate -s 1000000 going/*.fits
wait "$launcher"
check "without frames all ranks end with exit code 3" test $? -eq 3
check "and say so once" test "$(grep -c 'at least two are needed' err)" -eq 1
check "and leave no output" test ! -e gone.fits

check "nothing is left beside the outputs" test -z "$(find . -name '*.tmp*' -o -name '.?*')"

# ---- training: two ranks with half the batch each are one with all of it

config() {
  cat <<EOF
name = "tiny"
widths = [16, 16]
blocks = [0, 1, 1]
steps = 5
batch = $1
reuse = 2
patch_px = 64
psf_bank = 4
warm_up_steps = 2
decay_fraction = 0.0
precision = "f32"
log_seconds = 0.0
EOF
}
config 8 >one.toml
config 4 >two.toml
"$limpid" train one.toml -o one.safetensors --threads 1 >out 2>err
timeout 300 "${launch[@]}" -n 2 "$limpid" train two.toml -o two.safetensors --threads 1 >out 2>err
check "two ranks train" test $? -eq 0
# columns: step, loss, identity_loss; sums in another order differ by rounding alone
same_losses() {
  paste -d, <(cut -d, -f1-3 one.safetensors.csv) <(cut -d, -f1-3 two.safetensors.csv) |
    awk -F, 'NR == 1 { next }
      { rows++; for (k = 2; k <= 3; k++) { d = $k / $(k + 3) - 1; if (d < 0) d = -d; if (d > 1e-4) bad = 1 }
        if ($1 != $4) bad = 1 }
      END { exit bad || rows != 5 }'
}
check "their losses are those of one with twice the batch, to 1e-4" same_losses
timeout 60 "${launch[@]}" -n 2 "$limpid" train two.toml --corpus none -o x.safetensors >out 2>err
check "a missing corpus ends both ranks" test $? -eq 3

echo "$checks checks, $failures failed"
[ "$failures" -eq 0 ]
