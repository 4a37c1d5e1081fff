"""Steps that fail on purpose: a loss or a gradient that is not finite, at chosen iterations."""

from collections.abc import Collection

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn


class FaultHook(Hook):
    """Break the steps of ``iterations`` (from 0): ``'loss'``, or ``'gradient'`` of one parameter.

    For the toy classifier. Fork the process or register it in one process only, to break one rank.
    """

    def __init__(self, iterations: Collection[int], where: str = 'loss') -> None:
        self.iterations, self.where, self._now = iterations, where, False

    def before_train(self, runner: Runner) -> None:
        model = getattr(runner.model, 'module', runner.model)
        if self.where == 'loss':
            model.classifier_loss.register_forward_hook(self._spoil_output)
        else:
            next(model.parameters()).register_hook(self._spoil)

    def before_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        self._now = runner.iter in self.iterations

    def _spoil_output(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return self._spoil(output)

    def _spoil(self, value: Tensor) -> Tensor:
        return value * float('nan') if self._now else value
