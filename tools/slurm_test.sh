#!/usr/bin/env bash
# Evaluate a checkpoint on a Slurm cluster, one process per GPU; waits for the job in the terminal.
#   bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS, PORT, PYTHON.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options]" >&2
    exit 2
fi
tools=$(cd "$(dirname "$0")" && pwd)
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
per_node=$((gpus < per_node ? gpus : per_node))
export MASTER_PORT=${PORT:-$((20000 + $$ % 10000))}
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"

# SRUN_ARGS holds several words on purpose.
# shellcheck disable=SC2086
exec srun --partition="$1" --job-name="$2" --ntasks="$gpus" --gres="gpu:$per_node" \
    --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} "${PYTHON:-python}" -u "$tools/test.py" "$3" "$4" --launcher slurm "${@:5}"
