#!/usr/bin/env bash
# Train a segmentor from the weights of a trunk; tools/torchrun.sh says which variables it reads.
#   bash seg_mmsegmentation/mim_dist_train.sh CONFIG PRETRAIN GPUS [KEY=VALUE ...] [--resume]
# PRETRAIN "none" trains from scratch. Every PRETRAIN gets a folder of its own, CONFIG/PRETRAIN with
# "configs" replaced by "work_dirs".
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash seg_mmsegmentation/mim_dist_train.sh CONFIG PRETRAIN GPUS [KEY=VALUE ...]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/../tools/torchrun.sh" "$3" \
    -m a2mim.transfer.train "$1" "$2" --launcher pytorch "${@:4}"
