#!/usr/bin/env bash
# Start a program in several processes: one per GPU, or gloo processes on a machine without GPU.
#   bash tools/torchrun.sh PROCESSES PROGRAM [arguments]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT. Another interpreter: PYTHON.
set -euo pipefail

processes=${1:-}
if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
    echo "error: the number of processes is '$processes'; give a whole number from 1 on" >&2
    exit 2
fi

# Share the cores: torchrun and mmengine would give each process one thread.
threads=$(($(nproc) / processes))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

exec "${PYTHON:-python}" "$root/tools/torchrun.py" \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" \
    "${@:2}"
