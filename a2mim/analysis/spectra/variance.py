"""How much features vary over positions."""

from torch import Tensor


def spatial_variance(features: Tensor) -> Tensor:
    """Unbiased variance over the positions of (B, C, H, W), mean over B and C: a scalar.

    Reference:
        Park and Kim, How do vision transformers work?, ICLR 2022
        (https://arxiv.org/abs/2202.06709), figure 9.
    """
    return features.var(dim=(2, 3)).mean()
