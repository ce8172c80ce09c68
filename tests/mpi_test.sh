#!/usr/bin/env bash
# Two processes under mpirun train as one does with twice the batch: mpi_test.sh LIMPID. Skipped (77)
# without mpirun.
set -euo pipefail
export LC_ALL=C.UTF-8
command -v mpirun >/dev/null || exit 77

limpid=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# a container's root and a machine with one core may run it, too; no thread waits by spinning
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OMP_WAIT_POLICY=PASSIVE

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
config 8 >"$work/one.toml"
config 4 >"$work/two.toml"
"$limpid" train "$work/one.toml" -o "$work/one.safetensors" --threads 1 >/dev/null 2>&1
mpirun -n 2 "$limpid" train "$work/two.toml" -o "$work/two.safetensors" --threads 1 >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; exit 1; }

# columns: step, loss, identity_loss; sums in another order differ by rounding alone
paste -d, <(cut -d, -f1-3 "$work/one.safetensors.csv") <(cut -d, -f1-3 "$work/two.safetensors.csv") |
  awk -F, '
    NR == 1 { next }
    { rows++; worst = 0
      for (k = 2; k <= 3; k++) { d = $k / $(k + 3) - 1; if (d < 0) d = -d; if (d > worst) worst = d }
      printf "step %d: loss %s with one process, %s with two, %.1e apart\n", $1, $2, $5, worst
      if ($1 != $4 || worst > 1e-4) bad = 1 }
    END { exit bad || rows != 5 }'

# where one process fails the others must not wait for ever
if timeout 60 mpirun -n 2 "$limpid" train "$work/two.toml" --corpus "$work/none" \
  -o "$work/x.safetensors" >/dev/null 2>&1; then
  echo "a missing corpus went unnoticed" >&2
  exit 1
fi
