"""Positions of a timm model for images of another size than its own, for one pass at a time.

Most families of timm do this themselves. Those with positions for one grid of patches, as BEiT,
are served here; their parameters stay what they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

TABLE, INDEX = 'relative_position_bias_table', 'relative_position_index'
# Rows of a table for the pairs with the class token: to it, from it, with itself.
CLASS_PAIRS = 3
Grid = tuple[int, int]


class ImagePositions:
    """What has to be replaced in a model while it encodes an image of other proportions.

    The embedding is interpolated, by timm's rule. In tables of relative positions every distance
    keeps its entry, and a distance beyond the table takes that of the farthest one in it.

    Args:
        model: A timm model with patches; its positions are for ``patch_embed.grid_size``.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.own: Grid = tuple(model.patch_embed.grid_size)
        self.tables = {
            name: module
            for name, module in model.named_modules()
            if getattr(module, TABLE, None) is not None
        }

    def at(self, grid: Grid) -> dict[str, Tensor]:
        """Parameters and buffers for (rows, columns) of patches, by their names in the model.

        Raises:
            ValueError: If tables are not for all pairs of patches, or are read once more in the
                backward pass.
        """
        if grid == self.own:
            return {}
        replaced = {}
        positions = getattr(self.model, 'pos_embed', None)
        if positions is not None:
            extra = positions.shape[1] - self.own[0] * self.own[1]
            replaced['pos_embed'] = resample_abs_pos_embed(
                positions, list(grid), list(self.own), num_prefix_tokens=extra
            )
        if self.tables:
            self._check_tables(grid)
            device = next(self.model.parameters()).device
            index = distance_index(self.own, grid, device)
            replaced |= {f'{name}.{INDEX}': index for name in self.tables}
        return replaced

    @contextmanager
    def windows(self, grid: Grid) -> Iterator[None]:
        """Let the tables be read for ``grid`` within the block."""
        self._set_windows(grid)
        try:
            yield
        finally:
            self._set_windows(self.own)

    def _set_windows(self, grid: Grid) -> None:
        for module in self.tables.values():
            module.window_size = grid
            if hasattr(module, 'window_area'):  # the one table that all blocks of BEiT share
                module.window_area = grid[0] * grid[1]

    def _check_tables(self, grid: Grid) -> None:
        pairs = (2 * self.own[0] - 1) * (2 * self.own[1] - 1) + CLASS_PAIRS
        astray = [n for n, module in self.tables.items() if len(getattr(module, TABLE)) != pairs]
        reason = f'the table of {astray[0]} is for windows' if astray else None
        # Checkpointing runs the blocks again in the backward pass, when the index is gone.
        if getattr(self.model, 'grad_checkpointing', False) and torch.is_grad_enabled():
            reason = 'grad_checkpointing is on'
        if reason:
            raise ValueError(
                f'{type(self.model).__name__} has tables of relative positions for '
                f'{self.own[0]}×{self.own[1]} patches, the image has {grid[0]}×{grid[1]}, and '
                f'{reason}: set img_size to the size of all images'
            )


def distance_index(own: Grid, grid: Grid, device: torch.device | None = None) -> Tensor:
    """Rows of BEiT's table for ``own`` (rows, columns) of patches, for all pairs of ``grid``.

    Returns:
        (1 + H * W, 1 + H * W), the class token first.
    """
    rows, columns = (
        axis.flatten()
        for axis in torch.meshgrid(
            *(torch.arange(length, device=device) for length in grid), indexing='ij'
        )
    )
    (down, right), width = (length - 1 for length in own), 2 * own[1] - 1
    vertical = (rows[:, None] - rows).clamp(-down, down) + down
    horizontal = (columns[:, None] - columns).clamp(-right, right) + right
    index = nn.functional.pad(vertical * width + horizontal, (1, 0, 1, 0))
    pairs = (2 * own[0] - 1) * width
    index[0, :], index[:, 0], index[0, 0] = pairs, pairs + 1, pairs + 2
    return index
