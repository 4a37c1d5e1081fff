"""Bring a released checkpoint of OpenMixup, MAE, BEiT, timm or torchvision into our layout.

    python tools/model_converters/openmixup_to_a2mim.py IN OUT

IN is a whole pre-training (``*_full.pth``), an extracted backbone or a fine-tuned classifier. OUT
holds backbone, mask token, gamma, decoder and classifier, as far as IN has them, under the names of
our models; ``--load-checkpoint`` and ``--pretrained`` of tools/train.py read it, and tools/test.py.
They read IN as well: the translation is the same. Averaged copies (``ema_…``) are left out, since
in released files the ordinary keys hold the average. The suffix of OUT chooses the format.
"""

import argparse
from collections import Counter
from pathlib import Path

from a2mim.engine.command_line import one_line_errors
from a2mim.options import add_reading_options
from a2mim.weights.files import save_file
from a2mim.weights.names import (
    BACKBONE,
    DECODER,
    Imported,
    architecture,
    classifier_of,
    depth,
    import_weights,
    is_ours,
    unwrap,
)
from a2mim.weights.recipe import find_recipe
from a2mim.weights.safe_load import load_file, reading


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', type=Path, metavar='IN')
    parser.add_argument('output', type=Path, metavar='OUT', help='.safetensors, .pth or .pt')
    parser.add_argument('--force', action='store_true', help='overwrite OUT if it is there')
    add_reading_options(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Translate, write, and say what became of the file and how to use it."""
    args = parse_args(arguments)
    if args.output.exists() and not args.force:
        raise FileExistsError(f'{args.output} exists; choose another name or add --force')
    with reading(args):
        content = load_file(args.checkpoint)
        try:
            if is_ours(content):
                raise ValueError('it is in the layout of our models already')
            imported = import_weights(content)
        except ValueError as error:
            raise ValueError(f'{args.checkpoint} is not imported: {error}') from error
    save_file(imported.state, args.output)
    print_found(imported)
    recipe = find_recipe(content, imported.backbone)
    print(f'wrote {args.output}')
    print_use(args.output, imported, recipe[0] if recipe else 'NAME')


def print_found(imported: Imported) -> None:
    """Say what the file is, and what was kept and dropped."""
    backbone = imported.backbone
    names = f'names of {backbone.family}' if backbone.family else 'names of timm'
    kind, blocks = architecture(backbone.state), depth(backbone.state)
    print(f'found a {kind} of {blocks} blocks, in the {names}')
    if backbone.choice:
        print(backbone.choice)
    parts = Counter(part_of(key, imported) for key in imported.state)
    for part, number in parts.items():
        print(f'kept    {number:5} tensors  {part}')
    for name, number in Counter(short(unwrap(key)) for key in imported.dropped).items():
        print(f'dropped {number:5} tensors  {name}')


def part_of(key: str, imported: Imported) -> str:
    """What a key of our models belongs to."""
    if key.startswith(f'{BACKBONE}{classifier_of(imported.backbone.state)}.'):
        return 'classifier'
    if key.startswith(DECODER):
        return 'decoder'
    return 'backbone' if key.startswith(BACKBONE) else key


def short(key: str) -> str:
    """A dropped key, without the many copies that differ in a number."""
    for start in ('ema_', 'decoder_'):
        if key.startswith(start):
            return f'{start}*'
    return f'*.{key.rsplit(".", 1)[-1]}' if key.endswith(('_index', 'attn_mask')) else key


def print_use(output: Path, imported: Imported, name: str) -> None:
    """Print the lines that use the file."""
    print(f'A config with model_name={name!r} uses it:')
    if any(key.startswith(DECODER) for key in imported.state):
        print(f'python tools/train.py PRETRAINING_CONFIG --load-checkpoint {output}')
    elif any(part_of(key, imported) == 'classifier' for key in imported.state):
        print(f'python tools/test.py FINETUNING_CONFIG {output}')
    print(f'python tools/train.py FINETUNING_CONFIG --pretrained {output}')


if __name__ == '__main__':
    with one_line_errors():
        main()
