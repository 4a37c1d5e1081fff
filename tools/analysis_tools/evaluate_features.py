"""Quality of frozen features: accuracy of nearest neighbours and of a linear probe, in per cent.

    python tools/analysis_tools/evaluate_features.py CONFIG [CHECKPOINT] [options]

CONFIG is any fine-tuning or linear-probe config: its training and validation images, both in the
validation pipeline, and its backbone with the weights of CHECKPOINT. Without CHECKPOINT the weights
are random, which is the baseline of a checkpoint's numbers.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from a2mim.engine.command_line import add_out_option, check_out, checkpoint_file, one_line_errors
from a2mim.engine.config_options import ConfigOptions
from a2mim.options import Parser, add_reading_options

if TYPE_CHECKING:
    from mmengine import Config
    from torch import nn


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, ['CONFIG CHECKPOINT --out features.json', 'CONFIG'])
    parser.add_argument('config', help='fine-tuning or linear-probe config')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint or extracted backbone')
    parser.add_argument('--seed', type=int, default=0, help='of random weights')
    parser.add_argument('--knn', action='store_true', help='nearest neighbours only')
    parser.add_argument('--linear', action='store_true', help='linear probe only')
    parser.add_argument('--neighbours', type=int, default=20, help='votes of --knn')
    parser.add_argument('--device', default='cpu', help='where features are computed')
    parser.add_argument(
        '--data',
        '--data-root',
        '--data_root',
        dest='data_root',
        metavar='DIR',
        help='read the images from DIR',
    )
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    add_out_option(parser, 'accuracies, and what they were measured on')
    add_reading_options(parser)
    return parser.parse_args(args)


def load_model(cfg: 'Config', checkpoint: str | None) -> 'nn.Module':
    """The classifier of ``cfg`` with the backbone of ``checkpoint``, by default a random one."""
    from a2mim.registry import MODELS

    if checkpoint is not None:
        file = checkpoint_file(checkpoint, 'checkpoint')
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=file)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def batches(cfg: 'Config', split: str) -> Iterable[dict]:
    """Images of a split in the validation pipeline, in order."""
    from torch.utils.data import DataLoader

    from a2mim.registry import DATASETS, FUNCTIONS

    evaluation = cfg.val_dataloader
    dataset = {**cfg[f'{split}_dataloader'].dataset, 'pipeline': evaluation.dataset.pipeline}
    return DataLoader(
        DATASETS.build(dataset),
        batch_size=evaluation.batch_size,
        num_workers=evaluation.num_workers,
        collate_fn=FUNCTIONS.get(evaluation.collate_fn.type),
    )


def main(args: argparse.Namespace) -> None:
    """Print the selected accuracies, by default both."""
    # With torch: after the command line has been read.
    import torch
    from mmengine.registry import init_default_scope

    from a2mim.analysis.networks import chosen_device
    from a2mim.engine.launch import load_config
    from a2mim.engine.mmengine_fixes import strict_loading
    from a2mim.evaluation import extract_features, knn_accuracy, linear_probe_accuracy
    from a2mim.weights.safe_load import reading

    check_out(args.out)
    cfg = load_config(args)
    if cfg.get('val_dataloader') is None:
        raise ValueError(f'{args.config} has no val_dataloader: give a fine-tuning config')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(args.seed)
    with strict_loading(), reading(args):
        model = load_model(cfg, args.checkpoint).to(chosen_device(args.device))
    train, test = (extract_features(model, batches(cfg, split)) for split in ('train', 'val'))
    print(f'features: {len(train[0])} to fit, {len(test[0])} to test, {train[0].shape[1]} wide')
    found = dict(config=args.config, checkpoint=args.checkpoint)
    found |= dict(fitted=len(train[0]), tested=len(test[0]), width=train[0].shape[1])
    if args.knn or not args.linear:
        accuracy = knn_accuracy(train, test, neighbours=args.neighbours)
        found |= dict(neighbours=args.neighbours, knn_top1=accuracy)
        print(f'{args.neighbours} nearest neighbours: {accuracy:.2f} % top-1')
    if args.linear or not args.knn:
        found['linear_top1'] = linear_probe_accuracy(train, test)
        print(f'linear probe: {found["linear_top1"]:.2f} % top-1')
    if args.out:
        Path(args.out).write_text(json.dumps(found, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    with one_line_errors():
        main(parse_args())
