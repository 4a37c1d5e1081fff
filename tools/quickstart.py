"""Pre-train, look, extract, fine-tune and compare, on photographs that are already installed.

    python tools/quickstart.py [--seeds 0 1 2]

Every step is a command of this repository, printed before it runs. Pre-training never sees a label.
The four classifiers after it see five labelled patches of each photograph; the figures in the
table are top-1 accuracies on test regions that no training has touched. Stopped by a signal, it
stops its command; started again, it resumes there.
"""

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = 'configs/quickstart'
PRETRAIN = f'{CONFIGS}/a2mim_resnet18_1xb64-cos-15e_photos-64px.py'
CLASSIFIERS = {
    'linear probe': f'{CONFIGS}/linear_resnet18_1xb35-cos-40e_photos-64px.py',
    'fine-tuning': f'{CONFIGS}/finetune_resnet18_1xb35-cos-40e_photos-64px.py',
}
STARTS = ('pre-trained', 'from scratch')


def run(*arguments: str | Path) -> None:
    """Run ``python tools/...`` from the repository root, as a user would, and stop where it fails.

    Raises:
        SystemExit: With the command's exit code.
    """
    words = [str(argument) for argument in arguments]
    print(f'\n$ python {shlex.join(words)}', flush=True)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    # Threads that spin while they wait slow a machine down that also does other things.
    environment = {'OMP_WAIT_POLICY': 'passive', **os.environ, 'PYTHONPATH': path}
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment)
    # The command saves and ends by itself.
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    before = {n: signal.signal(n, lambda n, _: process.send_signal(n)) for n in numbers}
    code = process.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    if code:
        raise SystemExit(code if code > 0 else 128 - code)


def run_seed(folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """What is not done yet; top-1 accuracy in percent by classifier and start."""
    done = folder / 'summary.json'
    if done.exists():
        print(f'{folder} is complete already')
        return json.loads(done.read_text())['accuracy']
    started = time.perf_counter()
    options = ['--seed', seed, '--resume', 'auto']
    trunk = folder / 'trunk.pth'
    if not trunk.exists():
        run('tools/train.py', PRETRAIN, '--work-dir', folder / 'pretrain', *options)
        extract = 'tools/model_converters/extract_backbone_weights.py'
        run(extract, folder / 'pretrain/latest.pth', trunk)
    seconds = {'pre-training and extraction': time.perf_counter() - started}
    accuracy: dict[str, dict[str, float]] = {}
    for name, config in CLASSIFIERS.items():
        for start in STARTS:
            work_dir = folder / f'{name} {start}'.replace(' ', '_')
            weights = ['--pretrained', trunk] if start == 'pre-trained' else []
            out = work_dir / 'test.json'
            if not out.exists():
                run('tools/train.py', config, '--work-dir', work_dir, *options, *weights)
                run('tools/test.py', config, work_dir / 'latest.pth', '--out', out)
            accuracy.setdefault(name, {})[start] = json.loads(out.read_text())['accuracy/top1']
    seconds['all'] = time.perf_counter() - started
    summary = dict(seed=seed, accuracy=accuracy, seconds=seconds)
    done.write_text(json.dumps(summary, indent=2) + '\n')
    return accuracy


def show(results: Sequence[dict[str, dict[str, float]]]) -> None:
    """One row per classifier: mean and, over several seeds, standard deviation."""
    table = Table(title=f'Top-1 accuracy in %, {len(results)} seed(s), 5 labels per photograph')
    for column in ('', *STARTS, 'gain'):
        table.add_column(column, justify='left' if column == '' else 'right')
    for name in CLASSIFIERS:
        columns = [[result[name][start] for result in results] for start in STARTS]
        columns.append([pre - scratch for pre, scratch in zip(*columns, strict=True)])
        table.add_row(name, *(mean_and_spread(values) for values in columns))
    Console().print(table)


def mean_and_spread(values: Sequence[float]) -> str:
    """``mean``, or ``mean ± standard deviation`` of several."""
    text = f'{statistics.mean(values):.1f}'
    return text if len(values) == 1 else f'{text} ± {statistics.stdev(values):.1f}'


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart'))
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    args = parser.parse_args(argv)
    started = time.perf_counter()
    results, folders = [], []
    for seed in args.seeds:
        folder = args.work_dir.resolve() / f'seed{seed}'
        folders.append(folder)
        results.append(run_seed(folder, seed))
    show(results)
    print(f'{time.perf_counter() - started:.0f} s in all. Pictures:')
    for folder in folders:
        print(f'  {folder}/pretrain/reconstruction/   image, what the network saw, reconstruction')
        print(f'  {folder}/pretrain/loss.png          the losses of pre-training')


if __name__ == '__main__':
    main()
