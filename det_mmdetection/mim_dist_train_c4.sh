#!/usr/bin/env bash
# Train a C4 detector: its last stage is a head that takes backbone weights as well.
#   bash det_mmdetection/mim_dist_train_c4.sh CONFIG PRETRAIN GPUS [KEY=VALUE ...] [--resume]
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash det_mmdetection/mim_dist_train_c4.sh CONFIG PRETRAIN GPUS [KEY=VALUE ...]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/mim_dist_train.sh" "$1" "$2" "$3" --shared-head "${@:4}"
