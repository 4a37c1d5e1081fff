"""Weights of a trunk for a backbone of MMDetection or MMSegmentation: all of them, or an error."""

from mmengine.logging import print_log
from torch import Tensor, nn

from a2mim.checkpoint import LoadReport, compare, fit_positions, load_file, trunk_state
from a2mim.registry import WEIGHT_INITIALIZERS


@WEIGHT_INITIALIZERS.register_module()
class TrunkPretrained:
    """Take every weight of a module from the trunk in a file, and say in the log how many.

    The file is any that this package writes or imports: an extracted trunk, a whole checkpoint, or
    weights of another system. What the trunk has beyond the module may stay: a classifier, the
    stages above the last one of the module, positions. A module as deep as the file is not.

    Args:
        checkpoint: The file.
        part: The part of the trunk that is in the module, such as ``'layer4'``; everything else in
            the module is new and keeps its values. None: the module is all trunk.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or a tensor of the module is missing in it, has another
            shape or belongs to another architecture.
    """

    def __init__(self, checkpoint: str, part: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.part = part

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into ``module``."""
        content = load_file(self.checkpoint)
        try:
            state = fit_positions(self._in_part(trunk_state(content)), module)
            report = self._check(module, state)
        except ValueError as error:
            raise ValueError(f'{self.checkpoint}: {error}') from error
        module.load_state_dict({key: state[key] for key in report.matched}, strict=False)
        print_log(self._account(module, report), logger='current')

    def _in_part(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.part is None:
            return state
        return {key: value for key, value in state.items() if key.startswith(f'{self.part}.')}

    def _check(self, module: nn.Module, state: dict[str, Tensor]) -> LoadReport:
        """Refuse what is not all there.

        Raises:
            ValueError: If so.
        """
        report = compare(module, state)
        missing = [key for key in report.missing if self._is_trunk(key)]
        parts = {name.split('.')[0] for name in module.state_dict()}
        astray = [
            key
            for key in report.unexpected
            if key.split('.')[0] in parts and 'relative_position' not in key
        ]
        if missing or report.mismatched or astray:
            owner = type(module).__name__ + (f'.{self.part}' if self.part else '')
            raise ValueError(
                f'only a part of {owner} can be taken from it ({report}); give weights of the same '
                'architecture, for example what extract_backbone_weights.py writes'
            )
        return report

    def _is_trunk(self, key: str) -> bool:
        # Old files lack the step counters of batch norm, which nothing reads.
        if key.endswith('num_batches_tracked'):
            return False
        return self.part is None or key.startswith(f'{self.part}.')

    def _account(self, module: nn.Module, report: LoadReport) -> str:
        fresh = [key for key in report.missing if not key.endswith('num_batches_tracked')]
        lines = [
            f'{type(module).__name__}: {len(report.matched)} of '
            f'{len(report.matched) + len(report.missing)} tensors taken from {self.checkpoint}'
        ]
        if fresh:
            lines.append(f'{len(fresh)} are new ({", ".join(fresh[:4])})')
        if report.unexpected:
            names = ', '.join(report.unexpected[:4])
            lines.append(f'{len(report.unexpected)} in the file not needed ({names})')
        return '; '.join(lines)
