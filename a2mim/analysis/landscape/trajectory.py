"""The path of a run, seen in the two directions in which its checkpoints differ most."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from a2mim.analysis.landscape.directions import Weights, line

MARGIN = 1.2  # of the grid around the path


@dataclass(frozen=True)
class Trajectory:
    """Checkpoints of a run as points.

    Attributes:
        directions: Two, scaled so that the path stays within -1 to 1 along both.
        points: (N, 2) float64, one for each checkpoint; the final weights are the origin.
        explained: (2,), share of the variance of the checkpoints along each.
    """

    directions: list[Weights]
    points: np.ndarray
    explained: np.ndarray


def run_checkpoints(folder: Path, prefix: str, first: int, last: int | None) -> list[Path]:
    """``PREFIX_EPOCH.pth`` in ``folder``, by epoch, from ``first`` to ``last``.

    Raises:
        ValueError: If there are fewer than three, which span no plane with the final weights.
    """
    pattern = re.compile(rf'{re.escape(prefix)}_(\d+)\.pth')
    found = {
        int(m[1]): path for path in folder.glob('*.pth') if (m := pattern.fullmatch(path.name))
    }
    epochs = [epoch for epoch in sorted(found) if epoch >= first and epoch <= (last or epoch)]
    if len(epochs) < 3:
        raise ValueError(
            f'{folder} has {len(epochs)} checkpoints {prefix}_EPOCH.pth of the asked epochs; a '
            'trajectory needs 3 or more: train with default_hooks.checkpoint.max_keep_ckpts=-1'
        )
    return [found[epoch] for epoch in epochs]


def find_trajectory(
    final: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]]
) -> Trajectory:
    """Principal directions of the differences to the final weights (Li et al. 2018, section 7).

    Raises:
        ValueError: If a checkpoint is of another network, or all are the same.
    """
    rows = [
        torch.cat([part.flatten() for part in line(final, each).values()]) for each in checkpoints
    ]
    differences = torch.stack(rows).double().cpu().numpy()  # (N, weights)
    if not differences.any():
        raise ValueError('all checkpoints have the final weights; there is no trajectory')
    pca = PCA(2, svd_solver='full').fit(differences)
    points = differences @ pca.components_.T
    extent = MARGIN * np.abs(points).max(axis=0).clip(min=1e-12)
    directions = [_unflatten(row, final) for row in pca.components_ * extent[:, None]]
    return Trajectory(directions, points / extent, pca.explained_variance_ratio_)


def _unflatten(row: np.ndarray, like: Mapping[str, Tensor]) -> Weights:
    parts = torch.from_numpy(row).split([tensor.numel() for tensor in like.values()])
    return {
        name: part.view(tensor.shape).to(tensor)
        for (name, tensor), part in zip(like.items(), parts, strict=True)
    }
