"""The length of a pre-training by its number of optimiser steps.

The number of updates, not of epochs, carries over to fewer images: a tenth of ImageNet, trained for
ten times as many epochs, pre-trains masked autoencoding as well (El-Nouby et al., Are Large-scale
Datasets Necessary for Self-Supervised Pre-training?, https://arxiv.org/abs/2112.10740).
"""

import math

AUTO = 'auto'  # what a config has in place of a number of epochs
# The 100-epoch run of SimMIM and A2MIM on ImageNet-1K: 1.28 million images, 2048 a step.
STEPS = 62_600
FEWEST_EPOCHS, MOST_EPOCHS = 20, 800  # the most is that of SimMIM
LEAST_STEPS = 3000  # three times what did not open the branches of a ResNet-10 (engine/preflight)
SHOWN = 20  # pictures, measurements and checkpoints of a run


def pretraining_epochs(per_epoch: int) -> tuple[int, str]:
    """Epochs of a pre-training of ``per_epoch`` steps each, and why."""
    epochs = round(STEPS / per_epoch)
    least = math.ceil(LEAST_STEPS / per_epoch)
    if least > MOST_EPOCHS:
        return least, f'few images: at least {LEAST_STEPS} steps'
    if epochs > MOST_EPOCHS:
        return MOST_EPOCHS, f'the most epochs, for less than {STEPS} steps'
    if epochs < FEWEST_EPOCHS:
        return FEWEST_EPOCHS, f'the fewest epochs, for more than {STEPS} steps'
    return epochs, f'about {STEPS} steps, those of 100 epochs on ImageNet-1K at 2048 images a step'


def is_due(epoch: int, epochs: int, interval: int | None) -> bool:
    """Whether something is to be shown after ``epoch`` of ``epochs``.

    Args:
        epoch: From 1.
        epochs: Of the run.
        interval: From one time to the next; None for a twentieth of the run.
    """
    return epoch == epochs or epoch % (interval or math.ceil(epochs / SHOWN)) == 0
