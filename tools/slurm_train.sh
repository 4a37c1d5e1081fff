#!/usr/bin/env bash
# Train on a Slurm cluster, one process per GPU.
#   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [options of tools/train.py]
# GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS, PORT (29500), PYTHON.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [options]" >&2
    exit 2
fi
partition=$1 job=$2 config=$3 gpus=$4
tools=$(dirname "$0")
per_node=${GPUS_PER_NODE:-8}
per_node=$((gpus < per_node ? gpus : per_node))

export MASTER_PORT=${PORT:-29500}
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"

# SRUN_ARGS holds several words on purpose.
# shellcheck disable=SC2086
exec srun --partition="$partition" --job-name="$job" --ntasks="$gpus" \
    --gres="gpu:$per_node" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$tools/train.py" "$config" --launcher slurm "${@:5}"
