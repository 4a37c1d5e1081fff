"""What a target of an export does, and how a written file is judged."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from a2mim.checkpoint import LoadReport
from a2mim.checkpoint.key_maps import Rules
from a2mim.export.source import Source

# Largest difference of features, as a share of the largest of ours: float32 in another order.
TOLERANCE = 1e-4
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Check:
    """What came back from a written file.

    Attributes:
        library: That read it, or whose list of names it was held against, with its version.
        report: What became of every tensor; None for a graph, which has no names.
        ours, theirs: Features of the same images; both None where the library cannot be imported.
    """

    library: str
    report: LoadReport | None
    ours: Tensor | None = None
    theirs: Tensor | None = None

    @property
    def difference(self) -> float:
        """Largest difference of two features."""
        return float((self.ours - self.theirs).abs().max())

    @property
    def scale(self) -> float:
        """Largest of our features."""
        return float(self.ours.abs().max())

    def verify(self) -> None:
        """Refuse anything but the whole trunk with the same features.

        Raises:
            ValueError: If a tensor is missing, left over or of another shape, or features differ.
        """
        if self.report is not None and (self.report.rate < 1 or self.report.mismatched):
            raise ValueError(f'{self.library} does not take the whole trunk: {self.report}')
        if self.ours is None:
            return
        if self.ours.shape != self.theirs.shape:
            raise ValueError(
                f'{self.library} returns features {tuple(self.theirs.shape)} where ours are '
                f'{tuple(self.ours.shape)}'
            )
        # Written so that nan fails too.
        if not self.difference <= TOLERANCE * self.scale:
            raise ValueError(
                f'{self.library} computes other features: the largest difference is '
                f'{self.difference:.2g}, the largest feature {self.scale:.3g}, and at most '
                f'{TOLERANCE:g} of it are allowed'
            )

    def __str__(self) -> str:
        lines = []
        if self.report is not None:
            number = len(self.report.matched)
            lines.append(f'{self.library}: {number} tensors, {self.report.rate:.0%} match')
        if self.ours is None:
            lines.append('NOT loaded back, no features compared: the library is not here to import')
        else:
            lines.append(
                f'{self.library}: features {tuple(self.theirs.shape)}, largest difference '
                f'{self.difference:.2g} where the largest feature is {self.scale:.3g} '
                f'(allowed: {TOLERANCE:g} of it)'
            )
        return '\n'.join(lines)


class Target(ABC):
    """Writes a trunk for another library, and reads it there.

    Attributes:
        suffixes: Of a path; the empty one stands for a folder.
    """

    suffixes: tuple[str, ...]

    def problem(self, source: Source) -> str | None:
        """Why the library has no model for this trunk; None if it has one."""
        return None

    @abstractmethod
    def write(self, source: Source, path: Path) -> None:
        """Write the trunk to ``path``, which does not exist."""

    @abstractmethod
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Read ``path`` in the library and compare features of ``image``, (B, C, H, W)."""

    @abstractmethod
    def usage(self, source: Source, path: Path) -> tuple[str, ...]:
        """The lines that use ``path``, two of them where two will do."""


def compare_shapes(expected: Shapes, state: Mapping[str, Tensor]) -> LoadReport:
    """What loading ``state`` into a model of these names and shapes would do."""
    common = [key for key in expected if key in state]
    shapes = {key: tuple(state[key].shape) for key in common}
    differ = [key for key in common if shapes[key] != tuple(expected[key])]
    return LoadReport(
        matched=[key for key in common if key not in differ],
        missing=[key for key in expected if key not in state],
        unexpected=[key for key in state if key not in expected],
        mismatched=[(key, expected[key], shapes[key]) for key in differ],
    )


def shapes_of(model: nn.Module) -> Shapes:
    """Names and shapes of the tensors that a model has to load.

    Indices of relative positions are computed from the grid.
    """
    return {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if not key.endswith('relative_position_index')
    }


def rename(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Apply every rule, a pattern and its replacement, to every name, in order."""
    renamed = {}
    for key, tensor in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = tensor
    return renamed
