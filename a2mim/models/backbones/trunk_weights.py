"""Weights from a file into a timm trunk, whatever system wrote the file."""

from torch import nn

from a2mim.checkpoint import (
    LoadReport,
    fit_positions,
    load_file,
    load_weights,
    trunk_state,
    without_other_classes,
)


def load_trunk(model: nn.Module, checkpoint: str) -> LoadReport:
    """Load the trunk that the file ``checkpoint`` holds into a timm model.

    Position embeddings and tables are resized to the image size of ``model``. A classifier of
    another number of classes stays out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or one of another architecture.
    """
    content = load_file(checkpoint)
    try:
        state = without_other_classes(trunk_state(content), model)
        return load_weights(model, fit_positions(state, model))
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}') from error
