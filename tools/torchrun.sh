#!/usr/bin/env bash
# Start a program in several processes: one per GPU, or gloo processes on a machine without GPU.
#   bash tools/torchrun.sh PROCESSES PROGRAM [arguments]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT (29500). Another interpreter: PYTHON.
# One machine takes a free port, unless PORT names one.
set -euo pipefail

processes=${1:-}
if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
    echo "error: the number of processes is '$processes'; give a whole number from 1 on" >&2
    exit 2
fi

nodes=${NNODES:-1}
[ "$nodes" = 1 ] && port=${PORT:-free} || port=${PORT:-29500}
if ! [[ $port =~ ^(free|[1-9][0-9]{0,4})$ ]] || [ "${port/free/1}" -gt 65535 ]; then
    echo "error: PORT=$port; give a whole number from 1 to 65535, or leave PORT out" >&2
    exit 2
fi

# Share the cores: torchrun and mmengine would give each process one thread.
threads=$(($(nproc) / processes))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

exec "${PYTHON:-python}" "$root/tools/torchrun.py" \
    --nnodes="$nodes" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="$port" \
    --nproc_per_node="$processes" \
    "${@:2}"
