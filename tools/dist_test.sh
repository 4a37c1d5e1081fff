#!/usr/bin/env bash
# Evaluate a checkpoint with several processes; tools/torchrun.sh says which variables it reads.
#   bash tools/dist_test.sh CONFIG GPUS CHECKPOINT [options of tools/test.py]
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash tools/dist_test.sh CONFIG GPUS CHECKPOINT [options of tools/test.py]" >&2
    exit 2
fi
tools=$(dirname "$0")
exec bash "$tools/torchrun.sh" "$2" "$tools/test.py" "$1" "$3" --launcher pytorch "${@:4}"
