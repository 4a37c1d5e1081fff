"""The step of two processes: its time, what makes the host wait in it, and its collectives.

Each process trains the shipped config in the real runner, in DDP, with batch norm over the joint
batch where the config asks for it. Beside it, in turns and in the same processes, timm's supervised
step in DDP with batch norm per process (timm's default) and with joint batch norm. Gloo, on a CPU.

    python tools/benchmarks/two_processes.py --models resnet50 --batch 8
"""

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger
from real_run import EPOCH, RECIPES, RealRun, real_recipe, write_images
from torch.nn.parallel import DistributedDataParallel
from train_step import add_step_options, describe_step, timm_step
from turns import make_parser, paired_ratios, take_turns

from a2mim.engine.host_waits import StepCounts
from a2mim.engine.processes import leave_processes
from a2mim.engine.sync_batch_norm import JointBatchNorm, join_batch_norm

PROCESSES = 2
OURS = 'A2MIM'
SUPERVISED = {
    'timm': DistributedDataParallel,
    'timm, joint batch norm': lambda model: DistributedDataParallel(join_batch_norm(model)),
}
COLUMNS = (
    'backbone', 'batch of each', 'A2MIM, ms per step', 'ratio to timm',
    'ratio to timm, joint batch norm', 'joint batch norms', 'host waits',
    'their collectives: forward', 'backward', 'others',
)  # fmt: skip


def compare(run: RealRun, args: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds per step of each form, round by round."""
    cfg, image = run.runner.cfg, run.batch['image']
    forms = {
        name: timm_step(cfg, image, args.device, args.dtype, wrap)
        for name, wrap in SUPERVISED.items()
    }
    return take_turns({OURS: run.step, **forms}, args)


def count(run: RealRun) -> list[int]:
    """Of one step: joint batch norms, waits, their collectives forward and backward, others."""
    with StepCounts() as counts:
        run.step()
    layers = sum(isinstance(layer, JointBatchNorm) for layer in run.runner.model.modules())
    joint = [kind['all_reduce'] for kind in (counts.forward, counts.backward)]
    others = counts.forward.total() + counts.backward.total() - sum(joint)
    return [layers, counts.waits.total(), *joint, others]


def work(args: argparse.Namespace) -> None:
    """What each of the processes does; the first one prints."""
    say = print if os.environ['RANK'] == '0' else lambda *_, **__: None
    MMLogger.get_current_instance().setLevel(logging.WARNING)  # no lines about groups in the table
    say(f'{PROCESSES} processes; {describe_step(args)}\n')
    say(f'| {" | ".join(COLUMNS)} |')
    say(f'|---|{"---:|" * (len(COLUMNS) - 1)}')
    for name in args.models:
        # The folder of the first process is that of both: the run has one work dir.
        folder = Path(args.folder, name)
        with real_recipe(name, folder, args, ['--launcher', 'pytorch']) as run:
            times = compare(run, args)
            counts = count(run)
        ratios = [f'**{paired_ratios(times[form], times[OURS])[0]:.2f}**' for form in SUPERVISED]
        row = [
            name,
            len(run.batch['image']),
            f'{statistics.median(times[OURS]):.0f}',
            *ratios,
            *counts,
        ]
        say(f'| {" | ".join(map(str, row))} |', flush=True)
        del run


def main(argv: Sequence[str] | None = None) -> None:
    """Start the processes by torchrun, or be one of them."""
    parser = make_parser(__doc__.split('\n')[0], rounds=5)
    parser.add_argument('--models', nargs='+', choices=RECIPES, default=['resnet50'])
    parser.add_argument('--folder', help=argparse.SUPPRESS)  # of the processes
    add_step_options(parser)
    args = parser.parse_args(argv)
    if args.device != 'cpu':
        parser.error('--device cuda: gloo on the CPU is what this measures')
    if args.folder:
        work(args)
        leave_processes()
        return
    given = sys.argv[1:] if argv is None else argv
    torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={PROCESSES}']
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            write_images(Path(folder, name, 'images'), EPOCH * PROCESSES * args.batch)
        command = [sys.executable, *torchrun, __file__, *given, '--folder', folder]
        threads = {'OMP_NUM_THREADS': '1', **os.environ}
        raise SystemExit(subprocess.run(command, env=threads).returncode)


if __name__ == '__main__':
    main()
