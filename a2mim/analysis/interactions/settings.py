"""What a measurement of interactions depends on."""

from dataclasses import dataclass

from a2mim.analysis.interactions.outputs import OUTPUTS
from a2mim.analysis.interactions.players import neighbour_pairs, orders_of

PUBLISHED_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
TARGETS = ('auto', 'label', 'predicted')


@dataclass(frozen=True)
class InteractionSettings:
    """Numbers and choices; the defaults are the published ones for ImageNet.

    Attributes:
        grid: g, cells along either side; n = g² players.
        pairs: Per image.
        contexts: Per pair and order. The empty and the full context exist once and are measured
            once.
        ratios: Sizes of contexts as shares of the n - 2 other players.
        output: See ``outputs.py``; None: 'modified' for a classifier, 'feature' for a trunk.
        target: Whose logit: of the label, of the class predicted on the whole image, or 'auto':
            the label where images have some and there are as many classes as logits.
        correct_only: Leave out what a network classifies wrongly.
        seed: Of pairs and contexts.
        batch_size: Masked images in a forward pass.

    Raises:
        ValueError: If one of them is out of range.
    """

    grid: int = 14
    pairs: int = 50
    contexts: int = 50
    ratios: tuple[float, ...] = PUBLISHED_RATIOS
    output: str | None = None
    target: str = 'auto'
    correct_only: bool = False
    seed: int = 0
    batch_size: int = 512

    def __post_init__(self) -> None:
        orders_of(self.ratios, self.grid)
        neighbour_pairs(self.grid, self.pairs, seed=0)
        if self.contexts < 1:
            raise ValueError(f'contexts={self.contexts} must be at least 1')
        if self.batch_size < 4:
            raise ValueError(
                f'batch_size={self.batch_size} must be at least 4: an interaction '
                'takes four masked images'
            )
        if self.output is not None and self.output not in OUTPUTS:
            raise ValueError(f'output={self.output!r} is none of {", ".join(OUTPUTS)}')
        if self.target not in TARGETS:
            raise ValueError(f'target={self.target!r} is none of {", ".join(TARGETS)}')

    @property
    def orders(self) -> tuple[int, ...]:
        """Sizes of the contexts."""
        return orders_of(self.ratios, self.grid)

    @property
    def contexts_of(self) -> tuple[int, ...]:
        """Contexts to measure for each order."""
        last = self.grid**2 - 2
        return tuple(1 if order in (0, last) else self.contexts for order in self.orders)

    @property
    def passes_per_image(self) -> int:
        """Masked images for one image and network."""
        return 4 * self.pairs * sum(self.contexts_of)
