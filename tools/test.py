"""Evaluate a checkpoint with the metrics of its config.

    python tools/test.py CONFIG CHECKPOINT [options]
    bash tools/dist_test.sh CONFIG GPUS CHECKPOINT [options]

The test data is used, or the validation data where the config has no other.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.dist import is_main_process
from torch import distributed

from a2mim.checkpoint import trust_checkpoints
from a2mim.engine.compat.strict_loading import strict_loading
from a2mim.engine.launch.build import build_test_runner
from a2mim.engine.launch.options import add_common_options
from a2mim.engine.launch.user_errors import one_line_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    parser.add_argument('checkpoint', help='checkpoint of the whole model')
    parser.add_argument('--out', metavar='FILE.json', help='write the metrics to a file')
    return parser.parse_args(argv)


def as_table(metrics: Mapping[str, float]) -> str:
    """Metrics, one a line, with aligned values."""
    width = max(map(len, metrics), default=0)
    return '\n'.join(f'{name:<{width}}  {value:8.3f}' for name, value in metrics.items())


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the command line; return the metrics."""
    args = parse_args(argv)
    with one_line_errors(), strict_loading(), trust_checkpoints(args.trust_checkpoint):
        runner = build_test_runner(args)
        metrics = runner.test()
    if is_main_process():
        print(as_table(metrics))
        if args.out:
            Path(args.out).write_text(json.dumps(metrics, indent=2) + '\n', encoding='utf-8')
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return metrics


if __name__ == '__main__':
    main()
