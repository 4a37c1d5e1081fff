"""The scalar v of a network whose interactions are measured.

Axes: B batch, K classes, D features.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from a2mim.analysis.pooling import pooled_features
from a2mim.analysis.subject import Subject

FEATURE = 'feature'


def log_odds(logits: Tensor, label: int) -> Tensor:
    """``z_y - log Σ_{k≠y} exp z_k``, which is log(p_y / (1 - p_y)): (B, K) to (B,)."""
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.logsumexp(dim=1)


def log_probability(logits: Tensor, label: int) -> Tensor:
    """``log p_y``: (B, K) to (B,)."""
    return logits.log_softmax(dim=1)[:, label]


def logit(logits: Tensor, label: int) -> Tensor:
    """``z_y``: (B, K) to (B,)."""
    return logits[:, label]


LOGIT_OUTPUTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    'modified': log_odds,
    'normal': log_probability,
    'yi': logit,
}
OUTPUTS = (*LOGIT_OUTPUTS, FEATURE)


def choose_output(subject: Subject, wanted: str | None) -> str:
    """``wanted``, or by default ``'modified'`` for a classifier and ``'feature'`` for a trunk.

    Raises:
        ValueError: If there is no such output, or the network does not have it.
    """
    trunk = subject.num_classes == 0
    if wanted is None:
        return FEATURE if trunk else 'modified'
    if wanted not in OUTPUTS:
        raise ValueError(f'output={wanted!r} is none of {", ".join(OUTPUTS)}')
    if trunk and wanted != FEATURE:
        raise ValueError(
            f'{subject.label} has no classifier, so it has no output {wanted!r}; take {FEATURE!r}, '
            'or fine-tune it first'
        )
    if not trunk and wanted == FEATURE:
        raise ValueError(
            f'{subject.label} is a classifier; {FEATURE!r} is for trunks: take one of '
            f'{", ".join(LOGIT_OUTPUTS)}'
        )
    return wanted


def network_outputs(subject: Subject, batch: Tensor) -> Tensor:
    """Logits (B, K) of a classifier, features averaged over positions (B, D) of a trunk.

    Double precision: an interaction is a small difference of four large numbers.
    """
    found = subject.model(batch) if subject.num_classes else pooled_features(subject, batch)
    return found.double()


def projection(features: Tensor, whole: Tensor) -> Tensor:
    """Length of ``features`` (B, D) along those of the whole image (D,): (B,).

    Linear in the features, as a logit is: the logit of a classifier without bias whose weights
    for "this image" are the image's own features, scaled to length 1.
    """
    return features @ F.normalize(whole, dim=0)
