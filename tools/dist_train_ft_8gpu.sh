#!/usr/bin/env bash
# Fine-tune pre-trained weights with 8 processes.
#   bash tools/dist_train_ft_8gpu.sh CONFIG PRETRAIN [options of tools/train.py]
exec bash "$(dirname "$0")/dist_train_ft.sh" 8 "$@"
