"""What one GPU can tell, in under nine minutes: speed, waits, precision, kernels, memory, loader.

    python tools/benchmarks/gpu_check.py --json gpu_check.json             # one H100 or A100
    python tools/benchmarks/gpu_check.py --device cpu --reduced            # to try the script

The parts run in the order of their worth. Each writes its rows to the JSON file at once, so that a
run that is killed keeps them, and is left out once less of ``--budget`` is left than it takes:

norm       the kernels of joint batch norm against the formulas in double precision
step       A2MIM in the real runner against timm's supervised step: time, device, memory
waits      operators of the real runner that make the host wait for the GPU
precision  ViT-B in float32, TF32 and bfloat16
train      tools/train.py on JPEG files: images/s, data wait, pause of a checkpoint
compile    the step again, with torch.compile on both sides
"""

import argparse
import gc
import json
import logging
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import timm
import torch
from gpu_norm import norm_errors
from loader import write_files
from mmengine.logging import MMLogger
from real_run import PRETRAIN, RECIPES, REDUCED_SIZE, RealRun, real_recipe, recipe_options
from torch import nn
from torch.profiler import ProfilerActivity, profile
from train_step import timm_step
from turns import describe_run, paired_ratios, take_turns

from a2mim.options import usable_cores

BATCH = {'resnet50': 256, 'vit_base': 128, 'convnext_small': 128}
SECONDS = dict(norm=10, step=35, waits=20, precision=35, train=90, compile=100)  # of one row
WATCHED = 20  # steps, between two log lines
SYNCHRONIZE = ('cudaEventSynchronize', 'cudaStreamSynchronize')


class Check:
    """The rows found so far, and the time that is left.

    Args:
        args: The command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.started = args, time.monotonic()
        self.rows: dict[str, list[dict]] = {}
        self.folder = Path()
        self.dtype = 'float32' if args.reduced else 'bfloat16'

    def left(self) -> float:
        """Seconds."""
        return self.args.budget - (time.monotonic() - self.started)

    def note(self, kind: str, /, **row: object) -> None:
        """Print a row, and write all rows to the file."""
        self.rows.setdefault(kind, []).append(row)
        text = json.dumps(self.rows, indent=1)
        partial = self.args.json.with_suffix('.partial')
        partial.write_text(text + '\n')
        os.replace(partial, self.args.json)
        print(kind, ' '.join(f'{k}={short(v)}' for k, v in row.items()), flush=True)

    def step_options(self, name: str, dtype: str | None = None) -> argparse.Namespace:
        """What a step of the recipe ``name`` is made of, and how it is timed."""
        args = self.args
        return argparse.Namespace(
            batch=4 if args.reduced else BATCH[name],
            image_size=224,
            dtype=dtype or self.dtype,
            device=args.device,
            reduced=args.reduced,
            rounds=1 if args.reduced else 4,
            repeats=1 if args.reduced else 10,
            threads=args.threads,
            clock='wall',
        )

    @contextmanager
    def run(
        self, name: str, options: argparse.Namespace, *, compiled: bool = False
    ) -> Iterator[RealRun]:
        """The recipe in the real runner."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        switch = ['--compile'] if compiled else []
        changes = ['compile.backend=aot_eager'] if compiled and options.device == 'cpu' else []
        with real_recipe(name, folder, options, switch, changes) as run:
            yield run
        shutil.rmtree(folder)


def short(value: object) -> str:
    """Four digits of a float."""
    if value is None:
        return 'not measured'
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def wait_for(device: str) -> None:
    """Until everything that is queued is done."""
    if device == 'cuda':
        torch.cuda.synchronize()


def allocated(device: str) -> int:
    """Bytes of the GPU that tensors take."""
    return torch.cuda.memory_allocated() if device == 'cuda' else 0


def peak_memory(form: Callable[[], object], before: int, device: str) -> float | None:
    """MiB above ``before`` at most: weights, moments, gradients, activations."""
    form()  # allocates the moments, and tries algorithms
    if device != 'cuda':
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    form()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def look_inside(form: Callable[[], object]) -> dict[str, float]:
    """Of one call: kernels, waits of the host, and its time apart from them, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        start = time.perf_counter()
        form()
        host = 1e3 * (time.perf_counter() - start)
        torch.cuda.synchronize()
    events = recorded.key_averages()
    waited = [event for event in events if event.key in SYNCHRONIZE]
    on_device = [
        event
        for event in events
        if event.device_type == torch.autograd.DeviceType.CUDA
        and not getattr(event, 'is_user_annotation', False)
    ]
    return dict(
        launches=sum(e.count for e in events if 'Launch' in e.key and e.key.startswith('cu')),
        synchronizations=sum(event.count for event in waited),
        host_ms=host - sum(event.cpu_time_total for event in waited) / 1e3,
        kernel_ms=sum(event.self_device_time_total for event in on_device) / 1e3,
    )


def compile_as_ours(model: nn.Module, device: str) -> nn.Module:
    """As ``Check.run`` compiles: on a CPU the first half of it, for the rest takes minutes."""
    model.compile(**(dict(backend='aot_eager') if device == 'cpu' else {}))
    return model


def compare_steps(check: Check, part: str, name: str, *, compiled: bool) -> None:
    """A row of ``step`` or ``compile``, and on a GPU one of ``inside``."""
    options = check.step_options(name)
    device, started, before = options.device, time.monotonic(), allocated(options.device)
    change = partial(compile_as_ours, device=device) if compiled else lambda model: model
    with check.run(name, options, compiled=compiled) as run:
        memory, between = peak_memory(run.step, before, device), allocated(device)
        twin = timm_step(run.runner.cfg, run.batch['image'], device, options.dtype, change)
        other = peak_memory(twin, between, device)
        times = take_turns({'A2MIM': run.step, 'timm': twin}, options)
        ratio, lowest, highest = paired_ratios(times['timm'], times['A2MIM'])
        rates = {k: 1e3 * options.batch / statistics.median(v) for k, v in times.items()}
        check.note(
            part,
            model=name,
            batch=options.batch,
            dtype=options.dtype,
            images_s=rates['A2MIM'],
            timm_images_s=rates['timm'],
            ratio=ratio,
            lowest=lowest,
            highest=highest,
            peak_mib=memory,
            memory_ratio=memory / other if memory and other else None,
            seconds=time.monotonic() - started,
        )
        if device == 'cuda':
            for who, form in (('A2MIM', run.step), ('timm', twin)):
                found, took = look_inside(form), statistics.median(times[who])
                busy = found['kernel_ms'] / took
                check.note('inside', part=part, model=name, who=who, busy=busy, **found)


def watch_waits(check: Check, name: str) -> None:
    """A row of ``waits``: what torch warns of in steps between two log lines."""
    options = check.step_options(name)
    found, spent = [], []
    with check.run(name, options) as run:
        for _ in range(3):  # the first steps allocate
            run.step()
        wait_for(options.device)
        if options.device == 'cuda':
            torch.cuda.set_sync_debug_mode('warn')
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            for _ in range(3 if check.args.reduced else WATCHED):
                start = time.perf_counter()
                run.step()
                spent.append(1e3 * (time.perf_counter() - start))
        if options.device == 'cuda':
            torch.cuda.set_sync_debug_mode('default')
        for one in caught:
            if 'synchroniz' in str(one.message):
                found.append(f'{Path(one.filename).name}:{one.lineno}')
    check.note(
        'waits',
        model=name,
        steps=len(spent),
        warnings=len(found),
        where=sorted(set(found))[:8],
        host_ms=statistics.median(spent),
    )


def compare_precision(check: Check) -> None:
    """The rows of ``precision``."""
    forms = dict(
        float32=('highest', 'float32'), tf32=('high', 'float32'), bf16=('high', 'bfloat16')
    )
    kept = torch.get_float32_matmul_precision()
    for label, (level, dtype) in forms.items():
        options = check.step_options('vit_base', dtype)
        options.batch = max(4, options.batch // 2)
        with check.run('vit_base', options) as run:
            torch.set_float32_matmul_precision(level)
            times = take_turns({label: run.step}, options)[label]
        rate = 1e3 * options.batch / statistics.median(times)
        check.note('precision', model='vit_base', what=label, batch=options.batch, images_s=rate)
    torch.set_float32_matmul_precision(kept)


def write_copies(folder: Path, count: int) -> float:
    """``count`` JPEG files of 64 pictures; KB of a file."""
    folder.mkdir()
    write_files(folder, 1, min(count, 64))
    written = sorted(folder.iterdir())
    for number in range(len(written), count):
        shutil.copyfile(written[number % len(written)], folder / f'copy{number:06}.jpg')
    return statistics.mean(file.stat().st_size for file in written) / 1e3


def train_on_files(check: Check) -> None:
    """The row of ``train``: what the log of ``tools/train.py`` says."""
    args, count = check.args, 16 if check.args.reduced else 8192
    size = write_copies(check.folder / 'train', count)
    started = time.monotonic()
    cores = usable_cores()
    said, code = run_train(check, 1 if args.reduced else cores)
    lines = re.findall(r'images/s: ([\d.e+]+)\s+data wait: (\d+)%', said)
    steady = lines[len(lines) // 3 :]  # workers and cuDNN have started
    if code or not steady:
        check.note('failed', part='train', error=said[-600:])
        return
    rates, waits = ([float(pair[i]) for pair in steady] for i in (0, 1))
    check.note(
        'train',
        files=count,
        kb_per_file=size,
        cores=cores,
        images_s=statistics.median(rates),
        best_images_s=max(rates),
        data_wait_percent=statistics.median(waits),
        checkpoint_pauses_s=re.findall(r'training paused for ([\d.]+) s', said),
        seconds=time.monotonic() - started,
    )


def run_train(check: Check, workers: int) -> tuple[str, int]:
    """Output and exit code of a training of a few epochs with a checkpoint after each."""
    reduced = check.args.reduced
    size, batch = (REDUCED_SIZE, 4) if reduced else (224, BATCH['resnet50'])
    options = [
        *recipe_options('resnet50', batch, size, check.dtype, reduced=reduced),
        f'train_dataloader.num_workers={workers}',
        f'train_cfg.max_epochs={1 if reduced else 4}',
        'log_level=INFO',
        'default_hooks.logger.interval=4',
        'default_hooks.checkpoint.interval=1',
        'log_processor.window_size=4',
        'param_scheduler.warmup=0',
    ]
    words = [Path(__file__).parents[1] / 'train.py', PRETRAIN / RECIPES['resnet50']]
    words += ['--data-root', check.folder / 'train', '--work-dir', check.folder / 'run']
    command = [sys.executable, *words, '--cfg-options', *options]
    limit = None if reduced else check.left()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        return f'no end after {limit:.0f} s: {error.stdout!r}', 1
    return done.stdout + done.stderr, done.returncode


def check_norm(check: Check) -> None:
    """The rows of ``norm``."""
    for row in norm_errors(check.args.device):
        check.note('norm', **row)


def parts(args: argparse.Namespace) -> dict[str, list[Callable[[Check], None]]]:
    """The calls of each part, a row or a few each."""
    return {
        'norm': [check_norm],
        'step': [lambda c, n=n: compare_steps(c, 'step', n, compiled=False) for n in args.models],
        'waits': [lambda c, n=n: watch_waits(c, n) for n in args.models],
        'precision': [compare_precision],
        'train': [train_on_files],
        'compile': [
            lambda c, n=n: compare_steps(c, 'compile', n, compiled=True) for n in args.models
        ],
    }


def summary(check: Check) -> list[str]:
    """The Markdown table of what was found."""
    lines = ['| what | value |', '|---|---|']
    for part in ('step', 'compile'):
        for row in check.rows.get(part, []):
            lines.append(
                f'| {part}, {row["model"]}, {row["dtype"]}, batch {row["batch"]} | '
                f'{row["images_s"]:.4g} images/s, **{row["ratio"]:.2f}** of timm '
                f'({row["lowest"]:.2f} – {row["highest"]:.2f}), memory '
                f'{short(row["memory_ratio"])} |'
            )
    for row in check.rows.get('inside', []):
        lines.append(
            f'| {row["part"]}, {row["model"]}, {row["who"]} | device busy {row["busy"]:.2f}, '
            f'{row["launches"]} launches, {row["synchronizations"]} synchronisations, host '
            f'{row["host_ms"]:.3g} ms apart from them |'
        )
    for row in check.rows.get('waits', []):
        lines.append(f'| waits, {row["model"]}, {row["steps"]} steps | {row["warnings"]} |')
    for row in check.rows.get('precision', []):
        lines.append(f'| {row["model"]}, {row["what"]} | {row["images_s"]:.4g} images/s |')
    norms = check.rows.get('norm', [])
    if norms:
        right = sum(row['ok'] for row in norms)
        largest = max(row['largest'] for row in norms)
        lines.append(
            f'| joint batch norm, {len(norms)} cases | {right} equal the formulas up to rounding, '
            f'largest relative difference {largest:.1e} |'
        )
    for row in check.rows.get('train', []):
        if 'images_s' in row:
            wait = f'data wait {row["data_wait_percent"]:.0f}%'
            pauses = ', '.join(row['checkpoint_pauses_s']) or 'none'
            files = f'{row["files"]} files of {row["kb_per_file"]:.0f} KB, {row["cores"]} cores'
            rate = f'{row["images_s"]:.4g} images/s'
            lines.append(f'| train.py, {files} | {rate}, {wait}, pauses in s: {pauses} |')
    for part in ('failed', 'skipped'):
        lines += [f'| {part} | {row} |' for row in check.rows.get(part, [])]
    return lines


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--reduced', action='store_true', help='tiny backbones, few steps')
    # Those of A2MIM; more take longer than the nine minutes.
    usual = ['resnet50', 'vit_base', 'convnext_small']
    parser.add_argument('--models', nargs='+', choices=RECIPES, default=usual)
    parser.add_argument('--parts', nargs='+', choices=SECONDS, default=list(SECONDS))
    parser.add_argument('--budget', type=float, default=520, help='seconds')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='of the CPU')
    parser.add_argument('--json', type=Path, default=Path('gpu_check.json'), help='of the results')
    args = parser.parse_args(argv)
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch finds no GPU; --device cpu --reduced tries the script')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts, and print the table."""
    args = parse_args(argv)
    check = Check(args)
    args.clock = 'wall'
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    check.note('machine', what=describe_run(args), reduced=args.reduced, timm=timm.__version__)
    calls = parts(args)
    with tempfile.TemporaryDirectory() as folder:
        check.folder = Path(folder)
        for part, call in [(name, call) for name in args.parts for call in calls[name]]:
            if not args.reduced and check.left() < SECONDS[part]:
                check.note('skipped', part=part, seconds_left=check.left())
                continue
            try:
                call(check)
            except Exception as error:  # the other parts still say something
                check.note('failed', part=part, error=f'{type(error).__name__}: {error}'[:400])
            gc.collect()
            if args.device == 'cuda':
                torch.cuda.empty_cache()
    check.note('end', seconds=time.monotonic() - check.started)
    print('\n' + '\n'.join([describe_run(args), '', *summary(check)]))


if __name__ == '__main__':
    main()
