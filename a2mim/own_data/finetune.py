"""Fine-tune a pre-trained network on class folders.

    a2mim finetune --data DIR --from RUN_OR_FILE    classes are the folders in DIR, or in DIR/train
                                                    and DIR/val
    a2mim finetune CONFIG [options]                 trains what a config describes
                                                    (a2mim finetune CONFIG --help)

The first form writes what it has chosen to OUT/config.py, a config to edit and to repeat the run.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from a2mim.engine.command_line import checkpoint_file, one_line_errors
from a2mim.engine.start_up import lean_imports
from a2mim.own_data.options import (
    FolderParser,
    add_folder_options,
    check_folder_options,
    default_out,
    whole,
    written,
)

EPOCHS = (
    'auto: 100; more for few images, up to 300, and fewer for more than 62,600 steps, but at least '
    '20'
)
EVERY = 5  # of the images of a class one is kept for validation, where there is no val
SIZE = 224  # pixels, where the weights do not say
LISTS, CLASSES = ('train.txt', 'val.txt'), 'classes.txt'


def parser() -> FolderParser:
    """Of the command line."""
    examples = [
        '--data flowers --from work_dirs/photos',
        '--data flowers --from backbone.pth --epochs 50 --out o',
        'CONFIG --data flowers --from backbone.pth --out o',
    ]
    made = FolderParser(__doc__, examples)
    add = made.add_argument_group('images and network').add_argument
    add('--data', metavar='DIR', help='class folders, or train and val with class folders')
    start = 'folder of a run, or a file of weights: network, sizes, channels and statistics'
    add('--from', '--pretrained', dest='pretrained', metavar='RUN_OR_FILE', help=start)
    add('--size', type=whole, metavar='PIXELS', help='side of crops (default: as pre-trained)')
    add_folder_options(made, EPOCHS)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    made = parser()
    args = made.parse_args(argv)
    check_folder_options(made, args)
    if args.pretrained is None:
        made.error('give the weights to start from, a run or a file, with --from RUN_OR_FILE')
    # With torch: after the command line has been read.
    with lean_imports():
        from a2mim.own_data.run import config_of_run, start
    with one_line_errors():
        folder = Path(args.data).expanduser().resolve()
        if not folder.is_dir():
            raise FileNotFoundError(f'--data {args.data} is not a folder; give class folders')
        args.out = args.out or default_out(folder, f'{folder.name}_finetuned')
        config = config_of_run(made, args) or prepare(made, args, folder)
        start(config, args)


def prepare(made: FolderParser, args: argparse.Namespace, folder: Path) -> Path:
    """Look, choose, say it, and write the config."""
    from a2mim.engine.config_edit import READING
    from a2mim.own_data.config_text import check_out
    from a2mim.own_data.plan import Plan
    from a2mim.weights.load_model import input_spec

    check_out(args.out, part if (part := folder / 'train').is_dir() else folder)
    run, file = Plan(args), weights_file(args.pretrained)
    before = config_of(file)
    size = args.size or input_spec(before).image_size[0]
    model = classifier(before['model'], size)
    source = ((before.get('train_dataloader') or {}).get('dataset') or {}).get('source') or {}
    reading = {key: item for key, item in source.items() if key in READING}
    reading.setdefault('channels', len(model['data_preprocessor']['mean']))
    train, val, number, classes = sources(folder, args.out, reading)
    model['backbone'] |= dict(num_classes=len(classes))
    model['backbone'] |= dict(init_cfg=dict(type='Pretrained', checkpoint=str(file)))
    kept = f'every {EVERY}th image of each class, listed in {LISTS[1]}: there is no folder val'
    run.say(
        images=f'{number} of {len(classes)} classes to train on: {some(classes)}',
        size=f'{size} pixels: {"--size" if args.size else "as pre-trained"}',
        validation=f'{val.get("root")}' if val['type'] == 'ImageFolder' else kept,
        channels=f'{reading["channels"]}, with mean and std as pre-trained',
        backbone=f'{model["backbone"]["model_name"]}, from {file}; without init_cfg it trains '
        'from scratch, the baseline',
    )
    entries = run.finetuning(train, val, number, model, reading['channels'], size)
    title = f'Fine-tuning of {model["backbone"]["model_name"]} on class folders, at {size} pixels.'
    return run.write(title, written('finetune', args, made), entries)


def some(names: Sequence[str]) -> str:
    """The first few names."""
    return ', '.join(names[:EVERY]) + (', …' if len(names) > EVERY else '')


def weights_file(given: str) -> Path:
    """The file of ``--from``, absolute.

    Raises:
        FileNotFoundError: If there is none.
    """
    return Path(checkpoint_file(given, '--from')).absolute()


def config_of(file: Path) -> dict[str, Any]:
    """The config of the run that wrote a file, or one of the network that it holds.

    Raises:
        ValueError: If the file does not say which network that is.
    """
    from a2mim.weights.load_model import IMAGENET, embedded_config
    from a2mim.weights.names import find_backbone
    from a2mim.weights.recipe import find_recipe
    from a2mim.weights.safe_load import load_file

    content = load_file(file)
    config = embedded_config(content)
    backbone = {} if config is None else config['model'].get('backbone', {})
    if config is not None and backbone.get('model_name'):
        return config
    if place := backbone.get('network'):
        raise ValueError(
            f'--from {file} holds a network of your own, {place}, which gets no classifier here: '
            f'load the result of `a2mim extract {file} FILE` in your program'
        )
    found = find_recipe(content, find_backbone(content))
    if found is None:
        raise ValueError(
            f'--from {file} does not say which network it holds: give the checkpoint of the run, '
            'latest.pth, or a config: a2mim finetune CONFIG --from FILE'
        )
    backbone = dict(type='TimmBackbone', model_name=found[0], **found[1])
    return dict(model=dict(backbone=backbone, data_preprocessor={**IMAGENET}))


def classifier(before: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Config of a classifier on the network of ``before``, a config of an algorithm."""
    from a2mim.weights.recipe import without_initialisers

    masking = ('mask_after', 'mask_token')
    backbone = without_initialisers(before['backbone'])
    backbone = {key: item for key, item in backbone.items() if key not in masking}
    if 'img_size' in backbone:
        backbone['img_size'] = size
    preprocessor = {k: v for k, v in before['data_preprocessor'].items() if k != 'mixup'}
    loss = dict(type='CrossEntropyLoss', label_smoothing=0.1)
    return dict(
        type='ImageClassifier', data_preprocessor=preprocessor, backbone=backbone, loss=loss
    )


def sources(folder: Path, out: Path, reading: dict) -> tuple[dict, dict, int, Sequence[str]]:
    """Configs of the images to train and to validate on, the number of the former, and classes.

    Raises:
        ValueError: If they are not in class folders, or there is one class only.
    """
    from a2mim.datasets import ImageFolder

    parts = [folder / name for name in ('train', 'val')]
    split = all(part.is_dir() for part in parts)
    root = parts[0] if parts[0].is_dir() else folder
    labelled = ImageFolder(str(root), with_labels=True)
    classes = labelled.classes
    if len(classes) < 2:
        raise ValueError(
            f'{labelled.root} has {len(classes)} class folder(s), {some(classes)}; a classifier '
            'needs two'
        )
    if split:
        train, val = (
            dict(type='ImageFolder', root=str(part), with_labels=True, **reading) for part in parts
        )
        return train, val, len(labelled), classes
    kept = write_lists(labelled, out)
    files = [str((out / name).absolute()) for name in (*LISTS, CLASSES)]
    train, val = (
        dict(type='ImageList', list_file=file, root=str(root), classes_file=files[2], **reading)
        for file in files[:2]
    )
    return train, val, kept, classes


def write_lists(labelled: Any, out: Path) -> int:
    """Write the lists of both parts and of the classes; the number of images to train on.

    Raises:
        ValueError: If a class has too few images for both.
    """
    lines: tuple[list[str], list[str]] = ([], [])
    seen = [0] * len(labelled.classes)
    for index, label in enumerate(labelled.labels.tolist()):
        seen[label] += 1
        path = os.path.relpath(labelled.name(index), labelled.root)
        lines[seen[label] % EVERY == 0].append(f'{path},{label}\n')
    few = [name for name, count in zip(labelled.classes, seen, strict=True) if count < EVERY]
    if few:
        raise ValueError(
            f'{len(few)} classes have fewer than {EVERY} images ({some(few)}), so that none is '
            'left to validate on: put the images in train and val'
        )
    out.mkdir(parents=True, exist_ok=True)
    names = [f'{name}\n' for name in labelled.classes]
    for name, part in zip((*LISTS, CLASSES), (*lines, names), strict=True):
        (out / name).write_text(''.join(part), encoding='utf-8', errors='surrogateescape')
    return len(lines[0])
