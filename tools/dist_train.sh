#!/usr/bin/env bash
# Train with several processes; tools/torchrun.sh says which variables it reads.
#   bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]" >&2
    exit 2
fi
tools=$(dirname "$0")
exec bash "$tools/torchrun.sh" "$2" "$tools/train.py" "$1" --launcher pytorch "${@:3}"
