"""What a run measures of its features at epochs: the base class, and measures without labels.

Axes: B batch, N images, C channels, D features, (H, W) pixels.
"""

import time
from abc import abstractmethod
from collections.abc import Mapping, Sized
from datetime import timedelta
from typing import Any, cast

import numpy as np
import torch
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Dataset, Subset

from a2mim.interfaces import PROBES, Algorithm
from a2mim.length import is_due
from a2mim.masking import fill_masked, upsample_mask
from a2mim.registry import HOOKS


class EpochProbe(Hook):
    """Measure the network before the first epoch, after every n-th and after the last.

    The values go to the log, to the visualizer's back ends with the number of epochs as the step,
    and to ``probe.png`` in the work dir, through every resume.

    Training is not affected: the model runs in evaluation mode, uncompiled, and no random number is
    drawn from a global generator. Rank 0 measures the network as it would save it, with its own
    batch statistics, while the other processes wait; a sharded network computes in all of them.

    Args:
        interval: Epochs from one measurement to the next; None for a twentieth of the run.
        batch_size: Images per forward pass.

    Raises:
        ValueError: If a number is less than 1.
    """

    priority = 'LOW'  # before the checkpoint, which holds the values
    only_looks = True

    def __init__(self, interval: int | None, batch_size: int = 256) -> None:
        if min(interval or 1, batch_size) < 1 or interval == 0:
            raise ValueError(
                f'interval={interval} and batch_size={batch_size} of {type(self).__name__} must be '
                'at least 1'
            )
        self.interval = interval
        self.batch_size = batch_size
        self._loaders: dict[str, DataLoader] = {}
        self._waiting: distributed.ProcessGroup | None = None

    @abstractmethod
    def images(self, runner: Runner) -> dict[str, Dataset]:
        """The data sets that are measured on, by name."""

    @abstractmethod
    def values(self, model: nn.Module, loaders: Mapping[str, DataLoader]) -> dict[str, float]:
        """What is measured, by name."""

    def before_train(self, runner: Runner) -> None:
        """Prepare the images in every process, and measure the initial network."""
        # Workers as those of the training: whether they ignore signals is theirs to know.
        kind = type(runner.train_dataloader)
        for split, dataset in self.images(runner).items():
            self._loaders[split] = kind(
                dataset,
                batch_size=self.batch_size,
                num_workers=runner.train_dataloader.num_workers,
                collate_fn=runner.train_dataloader.collate_fn,
                # Every pass through a loader draws a seed, which must not come from the global one.
                generator=torch.Generator(),
            )
        if get_world_size() > 1:
            # gloo, since NCCL would keep the GPUs of waiting processes busy; without its limit of
            # 10 minutes.
            group = distributed.new_group(backend='gloo', timeout=timedelta(days=1))
            self._waiting = cast(distributed.ProcessGroup, group)  # of all processes
        if runner.iter == 0:
            self._measure(runner, 0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure, if the epoch is due."""
        epoch = runner.epoch + 1
        if is_due(epoch, runner.max_epochs, self.interval):
            self._measure(runner, epoch)

    def _measure(self, runner: Runner, epoch: int) -> None:
        """Let the main process measure and report, while the others wait."""
        started = time.perf_counter()
        wrapped = is_model_wrapper(runner.model)
        model = cast(Algorithm, runner.model.module if wrapped else runner.model)
        sharded = any(isinstance(parameter, DTensor) for parameter in model.parameters())
        if is_main_process() or sharded:
            values = self._eager(model)
            if is_main_process():
                self._report(runner, epoch, values, time.perf_counter() - started)
        if self._waiting is not None:
            barrier(self._waiting)

    def _eager(self, model: nn.Module) -> dict[str, float]:
        # A compiled model would be compiled once more for evaluation.
        with torch.compiler.set_stance('force_eager'):
            return self.values(model, self._loaders)

    def _report(
        self, runner: Runner, epoch: int, values: Mapping[str, float], seconds: float
    ) -> None:
        text = '  '.join(f'{name}: {value:.2f}' for name, value in values.items())
        runner.logger.info(f'Epoch(probe) [{epoch}]  {text}  time: {seconds:.1f} s')
        runner.visualizer.add_scalars(dict(values), step=epoch)
        kept = runner.message_hub.get_info(PROBES, {})
        for name, value in values.items():
            epochs, before = kept.setdefault(name, [[], []])
            epochs.append(epoch)
            before.append(float(value))
        runner.message_hub.update_info(PROBES, kept)


def evenly(number: int, most: int) -> list[int]:
    """At most ``most`` of ``number`` places, evenly spread."""
    return np.linspace(0, number - 1, min(number, most), dtype=int).tolist()


COLLAPSED = 2.0  # of new networks it is 6 to 30, and where vectors differ by 1 % up to 1.6
NOT_TOLD = (
    'probe without labels: an effective rank near 1 tells that the features have collapsed, and a '
    'masked_l1 that stays at mean_fill_l1 that nothing is learnt; neither tells how well the '
    'features classify, for which --probe DIR takes class folders'
)


@HOOKS.register_module()
class UnlabelledProbeHook(EpochProbe):
    """Effective rank of the features, and the reconstruction beside a mean fill.

    ``probe/effective_rank`` lies between 1 and the smaller of ``number`` and the width of the
    features. ``probe/masked_l1`` is the mean absolute error of the reconstruction on masked pixels,
    normalised as the network sees them, and ``probe/mean_fill_l1`` that of the mean colour of the
    image, which needs no network; with a target other than pixels there is neither. The images are
    training images, evenly spread, with their crops and masks of epoch 0. A rank that falls
    near 1 is a warning in the log.

    Args:
        interval: Epochs from one measurement to the next; None for a twentieth of the run.
        number: Images; less where there are fewer.
        batch_size: Images per forward pass.

    Raises:
        ValueError: If a number is too small, or before training if the images have no masks.
    """

    def __init__(self, interval: int | None, number: int = 128, batch_size: int = 64) -> None:
        super().__init__(interval, batch_size)
        if number < 2:
            raise ValueError(f'number={number} of UnlabelledProbeHook must be at least 2')
        self.number = number

    def images(self, runner: Runner) -> dict[str, Dataset]:
        """Training images; the log says what can be told without labels."""
        dataset = runner.train_dataloader.dataset
        if 'mask' not in dataset[0]:
            raise ValueError(
                'UnlabelledProbeHook measures masked image modelling, and the training images have '
                'no masks: leave the hook out'
            )
        runner.logger.info(NOT_TOLD)
        return dict(train=Subset(dataset, evenly(len(cast(Sized, dataset)), self.number)))

    @torch.no_grad()
    def values(self, model: nn.Module, loaders: Mapping[str, DataLoader]) -> dict[str, float]:
        """Effective rank and errors by name; NaN where training has diverged."""
        modes = {module: module.training for module in model.modules()}
        model.eval()
        features, errors = [], []
        for batch in loaders['train']:
            batch = cast(Algorithm, model).data_preprocessor(batch, False)
            output = model(image=batch['image'], mode='tensor').float()
            features.append(output.mean(dim=(2, 3)) if output.ndim == 4 else output)
            if not errors or errors[0][2]:  # with another target than pixels there are none
                errors.append(masked_errors(model(**batch, mode='predict')))
        for module, training in modes.items():
            module.training = training
        total = torch.stack(errors).sum(dim=0).tolist()
        values = {'probe/effective_rank': effective_rank(torch.cat(features).cpu().numpy())}
        if total[2]:
            values['probe/masked_l1'] = total[0] / total[2]
            values['probe/mean_fill_l1'] = total[1] / total[2]
        return values

    def _report(
        self, runner: Runner, epoch: int, values: Mapping[str, float], seconds: float
    ) -> None:
        super()._report(runner, epoch, values, seconds)
        _, ranks = runner.message_hub.get_info(PROBES)['probe/effective_rank']
        first, rank = ranks[0], ranks[-1]
        if rank < COLLAPSED and rank - 1 < (first - 1) / 4:
            runner.logger.warning(
                f'the effective rank of the features fell from {first:.2f} to {rank:.2f}: they '
                'have collapsed, all images have nearly one vector; a lower learning rate or '
                'another target helps (of an average as teacher: a decay nearer to 1)'
            )


def masked_errors(outputs: dict[str, Any]) -> Tensor:
    """Absolute errors of a reconstruction and of a mean fill, summed over masked pixels.

    Args:
        outputs: ``image`` and ``reconstruction`` (B, C, H, W), ``mask`` (B, h, w).

    Returns:
        (3,): the two sums, and the number of masked values; zeros with another target than
        pixels.
    """
    image, mask = outputs['image'].float(), outputs['mask'].float()
    if 'target' in outputs:
        return image.new_zeros(3)
    masked = upsample_mask(mask, tuple(image.shape[-2:])).unsqueeze(1)
    drawn, filled = outputs['reconstruction'].float(), fill_masked(image, mask)
    sums = [((other - image).abs() * masked).sum() for other in (drawn, filled)]
    return torch.stack([*sums, masked.sum() * image.shape[1]])


def effective_rank(features: np.ndarray) -> float:
    """The exponential of the entropy of the singular values, as shares of their sum.

    Args:
        features: (N, D), not centred.

    Returns:
        1 (all features are multiples of one) to min(N, D); NaN if a feature is not finite.

    Reference:
        Garrido et al., RankMe, ICML 2023 (https://arxiv.org/abs/2210.02885), equation 1.
    """
    if not np.isfinite(features).all():
        return float('nan')
    singular = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    shares = singular / max(singular.sum(), np.finfo(float).tiny)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
