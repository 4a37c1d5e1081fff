#!/usr/bin/env bash
# Fine-tune pre-trained weights with several processes.
#   bash tools/dist_train_ft.sh GPUS CONFIG PRETRAIN [options of tools/train.py]
# Every checkpoint gets a folder of its own, CONFIG/FOLDER_OF_PRETRAIN/FILE_OF_PRETRAIN, with
# "configs" replaced by "work_dirs".
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash tools/dist_train_ft_${1:-8}gpu.sh CONFIG PRETRAIN [options of tools/train.py]" >&2
    exit 2
fi
gpus=$1 config=$2 pretrain=$3
folder=$(basename "$(dirname "$pretrain")")
work_dir=${config%.*}
work_dir=${work_dir//configs/work_dirs}/$folder/$(basename "$pretrain")

exec bash "$(dirname "$0")/dist_train.sh" "$config" "$gpus" \
    --pretrained "$pretrain" --work-dir "$work_dir" "${@:4}"
