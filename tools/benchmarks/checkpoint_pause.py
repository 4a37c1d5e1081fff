"""How long training waits for a checkpoint: written while it waits, or copied and then written.

The state is that of a model with AdamW and an average of the weights. Both forms write the same
file to the same folder, and both end with it complete and read back; the table has the time until
training would proceed, and until the file is there.

    python tools/benchmarks/checkpoint_pause.py --model vit_base_patch16_224 --folder FOLDER
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import Tensor
from turns import describe_run

from a2mim.engine.checkpointing import BackgroundWriter, check_finite, snapshot
from a2mim.weights.files import write_atomically

FORMS = ('in the background', 'while training waits')


def make_state(model_name: str, device: str) -> dict[str, dict[str, Tensor]]:
    """Weights, two moments of each, and an average."""
    model = timm.create_model(model_name).to(device)
    parts = ('state_dict', 'ema_state_dict', 'exp_avg', 'exp_avg_sq')
    return {part: {k: v.clone() for k, v in model.state_dict().items()} for part in parts}


def save(state: dict, path: Path, form: str) -> tuple[float, float]:
    """Seconds until training proceeds, and until the file is complete."""
    start, writer = time.perf_counter(), BackgroundWriter()
    check_finite(state)
    copied = snapshot(state)
    writer.submit(lambda: write_atomically(path, lambda file: torch.save(copied, file)))
    if form == 'while training waits':
        writer.wait()
    pause = time.perf_counter() - start
    writer.wait()
    return pause, time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the forms in turns, and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default='vit_base_patch16_224', help='name in timm')
    parser.add_argument('--folder', type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='of the CPU')
    args = parser.parse_args(argv)
    args.clock = 'wall'
    torch.set_num_threads(args.threads)
    state, times = make_state(args.model, args.device), {form: [] for form in FORMS}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder, 'a.pth')
        for _ in range(args.rounds):
            for form in FORMS:
                times[form].append(save(state, path, form))
        size = path.stat().st_size / 2**20
    print(f'{describe_run(args)}; {args.model}, {size:.0f} MiB\n')
    print('| written | training waits, s | lowest – highest | complete after, s |')
    print('|---|---:|---:|---:|')
    for form, values in times.items():
        pauses, totals = zip(*values, strict=True)
        print(
            f'| {form} | {statistics.median(pauses):.2f} | {min(pauses):.2f} – {max(pauses):.2f} | '
            f'{statistics.median(totals):.2f} |'
        )


if __name__ == '__main__':
    main()
