#!/usr/bin/env bash
# What to measure on a machine with a GPU, in order of worth (docs/gpu.md).
#
#   examples/gpu_session.sh OUT [--dry-run]
#
# Each step writes to OUT as it goes: the benchmark as JSON, results as Parquet, all output to logs.
# So a session that is cut off keeps what it measured, and the same command goes on where it stopped.
# On another machine it goes on from results that are in analysis/results (as lr_width_gpu.parquet).
set -uo pipefail
out=${1:?usage: $0 OUT [--dry-run]}
dry=${2:-}
save_seconds=60
mkdir -p "$out"

# NAME COMMAND ...: run it once, with its output in a log; a failure is told, and leaves the others.
step() {
  local name=$1 code
  shift
  [[ -e $out/$name.done ]] && return
  echo "== $(date +%T) $name: $*"
  "$@" 2>&1 | tee "$out/$name.log"
  code=${PIPESTATUS[0]}
  if [[ $code == 0 && ! $dry ]]; then touch "$out/$name.done"; fi
  [[ $code == 0 ]] || echo "== $name: exit code $code"
}

save() {
  python -m analysis.save "$1_gpu" --runs-dir "$out/runs" --results-dir "$out" >/dev/null 2>&1
}

# SWEEP: train its size gpu, saving results every minute.
study() {
  local saver
  if [[ ! $dry && -e analysis/results/$1_gpu.parquet && ! -e $out/runs/$1_gpu ]]; then
    python -m analysis.restore "$1_gpu" --runs-dir "$out/runs"
  fi
  while [[ ! $dry ]]; do
    sleep "$save_seconds"
    save "$1"
  done &
  saver=$!
  step "$1" python -m sweeps.launch "sweeps/$1.yaml" \
    --size gpu --dtype bfloat16 --runs-dir "$out/runs" $dry
  kill "$saver" 2>/dev/null
  [[ $dry ]] || save "$1"
}

if [[ ! $dry ]]; then
  step benchmark python -m paper_repro.benchmark --output "$out/benchmark_cuda_bfloat16.json"
  step test_cuda python -m pytest -q -n 0 tests/test_cuda.py
fi
for sweep in search_global transfer_width transfer_depth transfer_steps transfer_duration \
  search_modules transfer_batch duration_factors transfer_qk_norm transfer_eps transfer_decay; do
  study "$sweep"
done
