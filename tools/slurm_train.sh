#!/usr/bin/env bash
# Train on a Slurm cluster, one process per GPU.
#   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [options of tools/train.py]
# or, as in OpenMMLab, GPUS=8 bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options];
# waits for the job in the terminal. For a job that outlives time limits, submit the same call:
#   sbatch --ntasks=GPUS --gres=gpu:8 --ntasks-per-node=8 --cpus-per-task=5 --time=24:00:00 \
#       --signal=B:USR1@300 --requeue --open-mode=append \
#       tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [options]
# or let SBATCH=1 bash tools/slurm_train.sh ... write that line; SBATCH_ARGS holds more of it.
# Ahead of the limit (GRACE, 300 seconds: more than one validation and one checkpoint take) the
# training is told to save, ends with code 75, and the job is queued again and resumes.
# GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS, PORT (by the number of the job), PYTHON.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [options]" >&2
    exit 2
fi
if ! [[ $4 =~ ^[1-9][0-9]*$ ]]; then
    # The work dir in its place, and the number of GPUs, 8 of them by default, in the environment.
    set -- "${@:1:3}" "${GPUS:-8}" --work-dir "$4" "${@:5}"
fi
partition=$1 job=$2 config=$3 gpus=$4
# Slurm runs a copy of a submitted script, from the folder of the submission.
tools=${A2MIM_TOOLS:-$(cd "$(dirname "$0")" && pwd)}
[ -f "$tools/train.py" ] || tools=${SLURM_SUBMIT_DIR:-.}/tools
per_node=${GPUS_PER_NODE:-8}
per_node=$((gpus < per_node ? gpus : per_node))
size=(--ntasks="$gpus" --gres="gpu:$per_node" --ntasks-per-node="$per_node"
    --cpus-per-task="${CPUS_PER_TASK:-5}")
grace=${GRACE:-300}
again=75 # a2mim/errors.py: TRY_AGAIN

if [ -n "${SBATCH:-}" ] && [ -z "${SLURM_JOB_ID:-}" ]; then
    export A2MIM_TOOLS=$tools
    # SBATCH_ARGS holds several words on purpose.
    # shellcheck disable=SC2086
    exec sbatch --partition="$partition" --job-name="$job" "${size[@]}" \
        --signal="B:USR1@$grace" --requeue --open-mode=append ${SBATCH_ARGS:-} \
        "$tools/slurm_train.sh" "$@"
fi

# Two jobs on one machine take different ports.
export MASTER_PORT=${PORT:-$((20000 + ${SLURM_JOB_ID:-$$} % 10000))}
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
options=("${@:5}")
command=("${PYTHON:-python}" -u "$tools/train.py" "$config" --launcher slurm)

if [ -z "${SLURM_JOB_ID:-}" ]; then
    # srun makes the allocation, and Slurm sends the signal to its processes.
    # SRUN_ARGS holds several words on purpose.
    # shellcheck disable=SC2086
    exec srun --partition="$partition" --job-name="$job" "${size[@]}" --signal="USR1@$grace" \
        --kill-on-bad-exit=1 ${SRUN_ARGS:-} "${command[@]}" "${options[@]}"
fi

# How the first start begins is for the caller to say; later ones resume from what was saved.
begins=' --(resume|resume.from|auto.resume|load.checkpoint)( |=|$)'
if [ "${SLURM_RESTART_COUNT:-0}" != 0 ]; then
    kept=()
    while [ ${#options[@]} -gt 0 ]; do
        word=${options[0]} options=("${options[@]:1}")
        if [[ " $word" =~ $begins ]]; then
            # Its value, in a word of its own, goes too.
            [[ $word == *=* || ${options[0]:---} == -* ]] || options=("${options[@]:1}")
        else
            kept+=("$word")
        fi
    done
    options=("${kept[@]}" --resume auto)
elif ! [[ " ${options[*]}" =~ $begins ]]; then
    options+=(--resume auto)
fi

told='' ended=''
trap 'told+=1; kill -USR1 "$child" || true' USR1
trap 'ended+=1; kill -TERM "$child" || true' TERM
# shellcheck disable=SC2086
srun --job-name="$job" "${size[@]}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${command[@]}" "${options[@]}" &
child=$!
while :; do
    heard=$told$ended code=0
    wait "$child" || code=$?
    # A trapped signal ends the wait, not the child.
    [ "$heard" != "$told$ended" ] && [ "$code" -gt 128 ] || break
done

# The first process to leave makes srun kill the others, whose code may be the greater one.
if [ -n "$told" ] && { [ "$code" = 137 ] || [ "$code" = 143 ]; }; then
    code=$again
fi
# After SIGTERM the job was cancelled, or Slurm itself queues it again.
if [ "$code" = "$again" ] && [ -z "$ended" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
