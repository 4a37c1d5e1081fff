#!/usr/bin/env bash
# Evaluate a trained detector; tools/torchrun.sh lists the environment variables.
#   bash det_mmdetection/mim_dist_test.sh CONFIG CHECKPOINT GPUS [KEY=VALUE ...]
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash det_mmdetection/mim_dist_test.sh CONFIG CHECKPOINT GPUS [KEY=VALUE ...]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/../tools/torchrun.sh" "$3" \
    -m a2mim.transfer.test "$1" "$2" --launcher pytorch "${@:4}"
