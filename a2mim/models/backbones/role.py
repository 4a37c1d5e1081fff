"""What a trunk is for: hiding features, giving maps to a detector, or classifying. One of them."""

from collections.abc import Sequence


def check_role(
    out_indices: Sequence[int] | None,
    num_classes: int,
    mask_after: str | int | None,
    mask_token: dict | None,
) -> None:
    """Refuse options of ``TimmBackbone`` that belong to different roles.

    Raises:
        ValueError: If so.
    """
    if mask_after is None and mask_token is not None:
        raise ValueError(f'mask_token={mask_token} needs mask_after, the place to put it')
    if mask_after is not None and num_classes:
        raise ValueError(
            f'mask_after={mask_after!r} hides features of a trunk; leave it out with '
            f'num_classes={num_classes}, a classifier'
        )
    if out_indices is not None and (mask_after is not None or num_classes):
        raise ValueError(
            f'out_indices={tuple(out_indices)} are for a trunk that hides nothing: leave '
            'mask_after and num_classes out'
        )
