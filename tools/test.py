"""Evaluate a checkpoint with the metrics of its config.

    python tools/test.py CONFIG CHECKPOINT [options]
    bash tools/dist_test.sh CONFIG GPUS CHECKPOINT [options]

The test data is used, or the validation data where the config has no other.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from a2mim.engine.command_line import add_common_options, add_out_option, check_out, one_line_errors
from a2mim.engine.start_up import lean_imports
from a2mim.options import Parser

if TYPE_CHECKING:
    from mmengine.runner import Runner

    from a2mim.evaluation import ClassReport, PerClassAccuracy, Predictions


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    examples = [
        'CONFIG CHECKPOINT',
        'CONFIG CHECKPOINT --data DIR --per-class --out metrics.json',
        'CONFIG CHECKPOINT --tta --out predictions.json --out-item pred --show-dir pictures',
    ]
    parser = Parser(__doc__, examples)
    add_common_options(parser)
    parser.add_argument('checkpoint', help='checkpoint of the whole model')
    parser.add_argument(
        '--per-class', action='store_true', help='show every class, the worst first'
    )
    parser.add_argument(
        '--out-item',
        choices=('metrics', 'pred'),
        default='metrics',
        help='pred: also write the best classes of each image to --out, under "predictions"',
    )
    parser.add_argument('--show-dir', metavar='DIR', help='write a picture of each prediction')
    parser.add_argument(
        '--tta', action='store_true', help='average the scores of an image and its mirror image'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    add_out_option(parser, 'metrics by name, and under "per_class" every class, the worst first')
    args = parser.parse_args(argv)
    if args.out_item == 'pred' and not args.out:
        parser.error('--out-item pred needs --out FILE.json')
    if args.amp:
        args.cfg_options = {**args.cfg_options, 'test_cfg.fp16': True}
    return args


def add_predictions(runner: 'Runner') -> 'Predictions':
    """Keep what the model says of each image, too."""
    from a2mim.evaluation import Predictions

    evaluator = runner.test_loop.evaluator
    metric = Predictions(runner.test_loop.dataloader.dataset)
    metric.dataset_meta = evaluator.dataset_meta
    evaluator.metrics.append(metric)
    return metric


def add_per_class(runner: 'Runner') -> 'PerClassAccuracy | None':
    """Count by class too, where the config measures the accuracy of a classifier."""
    from a2mim.evaluation import Accuracy, PerClassAccuracy

    evaluator = runner.test_loop.evaluator
    for metric in evaluator.metrics:
        if isinstance(metric, PerClassAccuracy):
            return metric
    if not any(isinstance(metric, Accuracy) for metric in evaluator.metrics):
        return None
    metric = PerClassAccuracy()
    metric.dataset_meta = evaluator.dataset_meta
    evaluator.metrics.append(metric)
    return metric


def as_lines(metrics: Mapping[str, float]) -> str:
    """Metrics, one a line, with aligned values."""
    width = max(map(len, metrics), default=0)
    return '\n'.join(f'{name:<{width}}  {value:8.3f}' for name, value in metrics.items())


def as_table(classes: 'Sequence[ClassReport]') -> Table:
    """Classes, one a row."""
    table = Table(title='Top-1 accuracy in % by class, the worst first')
    table.add_column('class', overflow='fold')
    table.add_column('images', justify='right')
    table.add_column('top-1', justify='right')
    table.add_column('most taken for', overflow='fold')
    table.add_column('times', justify='right')
    for report in classes:
        numbers = str(report.images), f'{report.top1:.1f}'
        confusion = report.confused_with or '', str(report.confusions or '')
        table.add_row(report.name, *numbers, *confusion)
    return table


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the command line; return the metrics."""
    args = parse_args(argv)
    # With torch: after the command line has been read.
    with lean_imports():
        from mmengine.dist import is_main_process

        from a2mim.engine.launch import build_test_runner
        from a2mim.engine.mmengine_fixes import strict_loading
        from a2mim.engine.processes import bare_model, leave_processes
        from a2mim.evaluation import average_mirrored, draw_predictions
        from a2mim.weights.safe_load import reading

    with one_line_errors(), strict_loading(), reading(args):
        check_out(args.out)
        runner = build_test_runner(args)
        per_class = add_per_class(runner)
        if args.per_class and per_class is None:
            raise ValueError(f'--per-class needs the metric Accuracy, which {args.config} has not')
        said = add_predictions(runner) if args.out_item == 'pred' or args.show_dir else None
        model = bare_model(runner.model)
        if args.tta:
            average_mirrored(model)
        metrics = runner.test()
        if args.show_dir and is_main_process():
            draw_predictions(model, said, Path(args.show_dir))
        del runner
    if is_main_process():
        print(as_lines(metrics))
        if args.per_class:
            # In a file or a pipe as wide as it needs to be.
            console = Console(width=None if sys.stdout.isatty() else 1000, markup=False)
            console.print(as_table(per_class.classes))
        if args.out:
            classes = per_class.classes if per_class else []
            entries = {'per_class': [dataclasses.asdict(report) for report in classes]}
            if args.out_item == 'pred':
                entries['predictions'] = said.rows
            text = json.dumps({**metrics, **entries}, indent=2, ensure_ascii=False)
            Path(args.out).write_text(text + '\n', encoding='utf-8')
    leave_processes()
    return metrics


if __name__ == '__main__':
    main()
