"""Training loops that go on in the middle of an epoch as if they had never stopped."""

from a2mim.engine.loops.epoch_based import EpochBasedTrainLoop
from a2mim.engine.loops.iteration_based import IterBasedTrainLoop

__all__ = ['EpochBasedTrainLoop', 'IterBasedTrainLoop']
