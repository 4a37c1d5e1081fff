#!/usr/bin/env bash
# Train a detector from backbone weights; tools/torchrun.sh lists the environment variables.
#   bash det_mmdetection/mim_dist_train.sh CONFIG PRETRAIN GPUS [KEY=VALUE ...] [--resume]
# PRETRAIN "none" trains from scratch. Each PRETRAIN gets its own work dir, CONFIG/PRETRAIN with
# "configs" replaced by "work_dirs".
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash det_mmdetection/mim_dist_train.sh CONFIG PRETRAIN GPUS [KEY=VALUE ...]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/../tools/torchrun.sh" "$3" \
    -m a2mim.transfer.train "$1" "$2" --launcher pytorch "${@:4}"
