"""Write the backbone of a checkpoint for another library, read it back there and compare.

IN is any file that holds a backbone: a checkpoint of a run, what extract_backbone_weights.py wrote,
a released file. The target's own library loads OUT and computes features of a photograph; unless
it takes every tensor and computes what the original does, nothing is written and the exit code is
2. Where a library is not installed, OUT is compared with the list of names and shapes of its model.

  timm          .safetensors, .pth   timm.create_model(…, checkpoint_path=OUT)
  torchvision   .pth, .safetensors   torchvision.models.…().load_state_dict(…)
  huggingface   a folder             timm.create_model('local-dir:OUT'), transformers.AutoModel
  mmdet, mmseg  .pth                 init_cfg=dict(type='Pretrained', checkpoint=OUT)
  mmpretrain    .pth                 the same
  detectron2    .pkl                 MODEL.WEIGHTS OUT; a pickle, for it reads nothing else
  onnx          .onnx                onnxruntime.InferenceSession(OUT), any batch size
"""

import argparse
from pathlib import Path

from a2mim.engine.command_line import one_line_errors
from a2mim.engine.config_options import ConfigOptions
from a2mim.options import Parser, add_reading_options


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    examples = [
        'CHECKPOINT resnet50.pth --to timm',
        'CHECKPOINT FOLDER --to huggingface --image photo.jpg',
        'CHECKPOINT FOLDER --to huggingface --push USER/NAME',
    ]
    parser = Parser(__doc__, examples)
    place = 'checkpoint, or the folder of a run'
    parser.add_argument('checkpoint', type=Path, metavar='IN', help=place)
    parser.add_argument('output', type=Path, metavar='OUT')
    parser.add_argument('--to', required=True, metavar='TARGET', help='a library of the list above')
    parser.add_argument('--model', metavar='NAME', help='in timm, where IN does not tell')
    parser.add_argument(
        '--model-options',
        nargs='+',
        action=ConfigOptions,
        default={},
        metavar='KEY=VALUE',
        help='for timm, in addition to those that IN tells',
    )
    parser.add_argument('--image', type=Path, metavar='FILE', help='photograph to compare on')
    parser.add_argument(
        '--push',
        metavar='USER/NAME',
        help='upload OUT, with a model card, to the Hugging Face hub; a new repository is private',
    )
    parser.add_argument('--force', action='store_true', help='replace OUT if it is there')
    add_reading_options(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Export, and say what the comparison gave and how to load the result."""
    args = parse_args(arguments)
    # With torch: after the command line has been read.
    from a2mim.weights.export import TARGETS, check_path, export
    from a2mim.weights.export.hub import check_repo, push
    from a2mim.weights.export.target import read_photograph, read_source
    from a2mim.weights.safe_load import reading

    check_path(args.to, args.output, args.force)
    if args.push:
        check_repo(args.to, args.push)
    with reading(args):
        source = read_source(args.checkpoint, args.model, args.model_options)
    print(f'read {args.checkpoint}: {source.call()}')
    check = export(source, args.to, args.output, read_photograph(source, args.image))
    print(check)
    print(f'wrote {args.output}')
    print(f'# its images: {source.images()}')
    for line in TARGETS[args.to].usage(source, args.output):
        print(line)
    if args.push:
        print(f'pushed to {push(source, args.output, args.push)}')


if __name__ == '__main__':
    with one_line_errors():
        main()
