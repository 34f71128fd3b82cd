#!/usr/bin/env bash
# Measures everything that docs/performance.md shows and writes it there: results to bench/results, the pictures and the
# tables to docs. It takes about half an hour, on a machine that must do nothing else meanwhile.

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
  local name=$1 operation=$2
  shift 2
  build/bench/bin/intact-compare --op "$operation" --json "$results/${operation}_$name.json" "$@"
}

compare one_thread gemm
compare two_threads gemm --threads 2
compare row_counts gemm --shapes all --peers oneDNN
compare int4 gemm --weights int4
compare grouped_int4 gemm --weights grouped-int4
native=$(build/bench/bin/intact-compare --list-isas | tail -n 1)
for isa in $(build/bench/bin/intact-compare --list-isas); do
  if [ "$isa" != scalar ] && [ "$isa" != "$native" ]; then
    compare "$isa" gemm --isa "$isa" --peers oneDNN
  fi
done

for operation in layernorm log_softmax activation add attention block; do
  compare one_thread "$operation"
  compare two_threads "$operation" --threads 2
done
compare growth block --shapes all --peers none

bench/plot.py "$results"/*.json
