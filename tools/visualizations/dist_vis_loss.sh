#!/usr/bin/env bash
# Measure a loss landscape with several processes, which share the points of the grid.
#   bash tools/visualizations/dist_vis_loss.sh CONFIG GPUS CHECKPOINT [CHECKPOINT ...] [options of vis_loss_landscape.py]
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash tools/visualizations/dist_vis_loss.sh CONFIG GPUS CHECKPOINT [CHECKPOINT ...] [options]" >&2
    exit 2
fi
here=$(dirname "$0")
exec bash "$here/../torchrun.sh" "$2" "$here/vis_loss_landscape.py" "$1" "${@:3}" \
    --launcher pytorch
