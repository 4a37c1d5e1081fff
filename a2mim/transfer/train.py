"""Train a detector or segmentor of MMDetection or MMSegmentation from the weights of a backbone.

    python -m a2mim.transfer.train CONFIG PRETRAIN [KEY=VALUE ...] [options]

Several processes: ``mim_dist_train.sh`` in ``det_mmdetection`` and ``seg_mmsegmentation``. An
error before the first iteration is done is one line; A2MIM_TRACEBACK=1 shows its origin.
"""

from collections.abc import Sequence

from a2mim.engine.command_line import one_line_errors
from a2mim.engine.launch import FirstIteration
from a2mim.engine.mmengine_fixes import strict_loading
from a2mim.engine.processes import WorkDirLock, leave_processes
from a2mim.transfer.launch import build_train_runner, parse_train_args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args, training = parse_train_args(argv), FirstIteration()
    with one_line_errors(training), strict_loading(), WorkDirLock() as lock:
        runner = build_train_runner(args, lock)
        runner.register_hook(training)
        runner.train()
        del runner
    leave_processes()


if __name__ == '__main__':
    main()
