"""Evaluate a trained detector or segmentor with the metrics of its config.

    python -m a2mim.transfer.test CONFIG CHECKPOINT [KEY=VALUE ...] [options]

Several processes: ``mim_dist_test.sh`` in ``det_mmdetection`` and ``seg_mmsegmentation``.
"""

from collections.abc import Sequence

from a2mim.engine.command_line import one_line_errors
from a2mim.engine.mmengine_fixes import strict_loading
from a2mim.engine.processes import leave_processes
from a2mim.transfer.launch import build_test_runner, parse_test_args


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the command line; return the metrics, which are in the log too."""
    args = parse_test_args(argv)
    with one_line_errors(), strict_loading():
        metrics = build_test_runner(args).test()
    leave_processes()
    return metrics


if __name__ == '__main__':
    main()
