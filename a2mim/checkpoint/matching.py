"""Load weights and say which came from where; refuse where too few match."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmengine.logging import print_log
from torch import Size, Tensor, nn

from a2mim.checkpoint.architecture import difference


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a module and of a state.

    Attributes:
        matched: Loaded.
        missing: In the module only; they keep their values.
        unexpected: In the state only.
        mismatched: In both with another shape: name, shape in the module, shape in the state.
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[tuple[str, Size, Size]]

    @property
    def rate(self) -> float:
        """Share of matched tensors, of the larger of module and state.

        The larger, because a ResNet-101 fills a ResNet-50 completely and is wrong all the same.
        BatchNorm's step counters, which old files lack, do not count.
        """
        matched = _count(self.matched)
        rest = max(_count(self.missing), _count(self.unexpected)) + len(self.mismatched)
        return matched / max(matched + rest, 1)

    def __str__(self) -> str:
        parts = [f'{len(self.matched)} tensors loaded, {self.rate:.0%} match']
        shapes = [f'{name} {tuple(new)} for {tuple(own)}' for name, own, new in self.mismatched]
        for title, names in (
            ('kept as they were', self.missing),
            ('not used', self.unexpected),
            ('of another shape', shapes),
        ):
            if names:
                more = ', …' if len(names) > 4 else ''
                parts.append(f'{len(names)} {title} ({", ".join(names[:4])}{more})')
        return '; '.join(parts)


def load_weights(
    module: nn.Module, state: Mapping[str, Tensor], min_match: float = 0.9
) -> LoadReport:
    """Copy the tensors of ``state`` into ``module``, name by name.

    Args:
        module: Unchanged where this raises.
        state: Tensors in the names of ``module``.
        min_match: Least ``LoadReport.rate``; the default leaves room for a new head and norm.

    Raises:
        ValueError: If less matches, or the architecture or a shape differs; the message says
            which, with examples.
    """
    report, reason = compare(module, state), difference(state, module.state_dict())
    if reason or report.rate < min_match or report.mismatched:
        reason = f'{reason}; ' if reason else ''
        raise ValueError(
            f'the checkpoint does not fit {type(module).__name__}: {reason}{report}; at least '
            f'{min_match:.0%} and every shape must match. Is it of another architecture?'
        )
    module.load_state_dict({key: state[key] for key in report.matched}, strict=False)
    print_log(f'{type(module).__name__}: {report}', logger='current')
    return report


def compare(module: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """What loading ``state`` into ``module`` would do."""
    own = {key: tensor.shape for key, tensor in module.state_dict().items()}
    common = [key for key in own if key in state]
    return LoadReport(
        matched=[key for key in common if own[key] == state[key].shape],
        missing=[key for key in own if key not in state],
        unexpected=[key for key in state if key not in own],
        mismatched=[
            (key, own[key], state[key].shape) for key in common if own[key] != state[key].shape
        ],
    )


def _count(keys: list[str]) -> int:
    return sum(not key.endswith('num_batches_tracked') for key in keys)
