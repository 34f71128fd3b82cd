#!/usr/bin/env bash
# Measures everything that docs/performance.md shows and writes it there: results to bench/results, the picture and the
# tables to docs. It takes about ten minutes, on a machine that must do nothing else meanwhile.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

read -r load _ < /proc/loadavg
if awk "BEGIN { exit !($load > 0.5) }"; then
  echo "The machine is busy: its load is $load. The results will not be worth much." >&2
fi

cmake --preset bench
cmake --build --preset bench
results=bench/results
mkdir -p "$results"
compare() {
  local name=$1
  shift
  build/bench/bin/intact-compare --op gemm --json "$results/gemm_$name.json" "$@"
}

compare one_thread
compare two_threads --threads 2
compare row_counts --shapes all --peers oneDNN
compare int4 --weights int4
native=$(build/bench/bin/intact-compare --list-isas | tail -n 1)
for isa in $(build/bench/bin/intact-compare --list-isas); do
  if [ "$isa" != scalar ] && [ "$isa" != "$native" ]; then
    compare "$isa" --isa "$isa" --peers oneDNN
  fi
done

bench/plot.py "$results"/gemm_*.json
