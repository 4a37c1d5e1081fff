"""The command line that all analyses share: networks, images, where to compute, where it goes."""

import argparse
from collections.abc import Mapping

import torch

from a2mim.analysis.images import PHOTOS, AnalysisImages
from a2mim.analysis.results import Results
from a2mim.analysis.sources import read_subject
from a2mim.analysis.subject import Subject
from a2mim.weights.safe_load import add_trust_option, trust_checkpoints


def add_analysis_options(
    parser: argparse.ArgumentParser, *, out: str, num_images: int, batch_size: int = 64
) -> None:
    """Give a tool its networks and images.

    Args:
        parser: Of the tool.
        out: Default folder of the results.
        num_images: Default number of images.
        batch_size: Default number of images in a forward pass.
    """
    parser.add_argument(
        'subjects',
        nargs='+',
        metavar='[LABEL=][random:]SOURCE',
        help='networks to compare: a checkpoint, a timm model by name, or NAME:FILE, a timm model '
        'with the weights of a file; random:SOURCE is the same network with random weights',
    )
    parser.add_argument(
        '--images', default=PHOTOS, metavar='DIR', help='a folder, or "photos": installed ones'
    )
    parser.add_argument('--num-images', type=int, default=num_images, metavar='N')
    parser.add_argument('--seed', type=int, default=0, help='of every random choice')
    parser.add_argument('--batch-size', type=int, default=batch_size, metavar='N')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu, cuda, …'
    )
    parser.add_argument('--out', default=out, metavar='DIR', help='folder of the results')
    add_trust_option(parser)


def open_subjects(args: argparse.Namespace) -> list[Subject]:
    """The networks of the command line.

    Raises:
        ValueError: If two have the same label; see ``read_subject`` for what else.
    """
    with trust_checkpoints(args.trust_checkpoint):
        subjects = [read_subject(text, args.device, args.seed) for text in args.subjects]
    labels = [subject.label for subject in subjects]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f'two networks are called {label!r}; write NAME=SOURCE for one')
    return subjects


def open_images(args: argparse.Namespace, *, labelled: bool = False) -> AnalysisImages:
    """The images of the command line; with ``labelled``, the folders in DIR are classes."""
    return AnalysisImages(args.images, args.num_images, args.seed, labelled=labelled)


def open_results(args: argparse.Namespace, title: str, **settings: object) -> Results:
    """The folder of the command line; ``settings`` are what the tool adds to the shared ones."""
    return Results(args.out, title, {**shared_settings(args), **settings})


def shared_settings(args: argparse.Namespace) -> Mapping[str, object]:
    """What every analysis was measured with."""
    names = ('subjects', 'images', 'num_images', 'seed')
    return {name: getattr(args, name) for name in names}
