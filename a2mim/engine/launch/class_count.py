"""The classes of the data and those of the classifier, compared before training."""

from collections.abc import Sequence

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


def check_class_count(runner: Runner) -> None:
    """Refuse a classifier for another number of classes than the training images have.

    Labels beyond the classifier would end the run with an error of the device; a classifier that
    is too wide would train, and hide that it was given other data. Models without a classifier,
    and data without names of classes, pass.

    Raises:
        ValueError: If so, or if a label means another class in validation than in training; list
            files have numbers in place of names, which are not compared.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    trunk = getattr(getattr(model, 'backbone', None), 'model', None)
    num_classes = getattr(trunk, 'num_classes', 0)
    classes = classes_of(runner.train_loop)
    if not num_classes or not classes:
        return
    if num_classes != len(classes):
        raise ValueError(
            f'model.backbone.num_classes={num_classes}, but the training images have '
            f'{len(classes)} classes ({abridged(classes)}); pass --cfg-options '
            f'model.backbone.num_classes={len(classes)}, or give the images of the config'
        )
    validated = classes_of(runner.val_loop)
    unnamed = are_numbers(validated) or are_numbers(classes)
    if unnamed and len(validated) <= len(classes):
        return
    # A class may be missing behind the last one: the others keep their numbers.
    if validated != classes[: len(validated)]:
        raise ValueError(
            f'the validation images have the classes {abridged(validated)}, the training images '
            f'{abridged(classes)}: the same label would mean two things; make the class folders '
            'of both the same'
        )


def classes_of(loop: object) -> tuple[str, ...]:
    """Names of the classes that a loop iterates over; empty without any."""
    dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
    return tuple(getattr(dataset, 'metainfo', {}).get('classes', ()))


def are_numbers(names: Sequence[str]) -> bool:
    """Whether classes have no names but their numbers, as in a list file."""
    return all(name == str(number) for number, name in enumerate(names))


def abridged(names: Sequence[str]) -> str:
    """The first few names."""
    return ', '.join(names[:5]) + (', …' if len(names) > 5 else '')
