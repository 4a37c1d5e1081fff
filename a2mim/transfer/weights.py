"""Weights of a trunk for a backbone of MMDetection or MMSegmentation: all of them, or an error."""

from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor, nn

from a2mim.registry import WEIGHT_INITIALIZERS
from a2mim.weights.fit import TABLE, LoadReport, compare, fit_positions
from a2mim.weights.names import architecture, classifier_of, difference, trunk_state
from a2mim.weights.safe_load import load_file


@WEIGHT_INITIALIZERS.register_module()
class TrunkPretrained:
    """Take every weight of a module from the trunk in a file, and say in the log how many.

    The file is any that this package writes or imports: an extracted trunk, a whole checkpoint, or
    weights of another system. Positions are resized to the image size of a timm module. The file
    may have more than the module: a classifier, stages above its last one, tables of relative
    positions that its config leaves out. A stage may not be deeper in the file.

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
        own = self._trunk_of(module.state_dict())
        try:
            found = trunk_state(content)
            fitted = fit_positions(without_tables(found, own), module)
            state = belonging(fitted, own)
            foreign = architecture(own) not in (None, architecture(fitted))
            reason = difference(fitted if foreign else state, own)
            report = self._check(module, state, own, reason)
        except ValueError as error:
            raise ValueError(f'{self.checkpoint}: {error}') from error
        module.load_state_dict({key: state[key] for key in report.matched}, strict=False)
        rest = [key for key in found if key not in state]
        print_log(self._account(module, report, rest), logger='current')

    def _trunk_of(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.part is None:
            return own
        return {key: value for key, value in own.items() if key.startswith(f'{self.part}.')}

    def _check(
        self,
        module: nn.Module,
        state: dict[str, Tensor],
        own: dict[str, Tensor],
        reason: str | None,
    ) -> LoadReport:
        """Refuse what is not all there.

        Raises:
            ValueError: If so.
        """
        report = compare(module, state)
        missing = [key for key in report.missing if key in own and not _is_counter(key)]
        deeper = [key for key in report.unexpected if not _is_counter(key)]
        if reason or missing or report.mismatched or deeper:
            owner = type(module).__name__ + (f'.{self.part}' if self.part else '')
            example = f'; {missing[0]} is not in it' if missing else ''
            raise ValueError(
                f'{owner} cannot be taken from it as a whole: {f"{reason}; " if reason else ""}'
                f'{report}{example}; give weights of the same architecture, for example what '
                'extract_backbone_weights.py writes'
            )
        return report

    def _account(self, module: nn.Module, report: LoadReport, rest: list[str]) -> str:
        fresh = [key for key in report.missing if not _is_counter(key)]
        total = len(report.matched) + len(fresh)
        lines = [
            f'{type(module).__name__}: {len(report.matched)} of {total} tensors '
            f'({len(report.matched) / total:.0%}) taken from {self.checkpoint}'
        ]
        if fresh:
            lines.append(f'{len(fresh)} are new ({", ".join(fresh[:4])})')
        if rest:
            lines.append(f'{len(rest)} in the file not needed ({", ".join(rest[:4])})')
        return '; '.join(lines)


def without_tables(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave tables of relative positions out for a module that has none, by its config."""
    if any(key.endswith(TABLE) for key in own):
        return dict(state)
    return {key: tensor for key, tensor in state.items() if not key.endswith(TABLE)}


def belonging(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What of a whole trunk is in a module that has some of its stages, and no classifier."""
    parts = {key.split('.')[0] for key in own}
    classifier = f'{classifier_of(state)}.'
    return {
        key: tensor
        for key, tensor in state.items()
        if key.split('.')[0] in parts and (key in own or not key.startswith(classifier))
    }


def _is_counter(key: str) -> bool:
    # Old files lack the step counters of batch norm, and so do frozen norms; nothing reads them.
    return key.endswith('num_batches_tracked')
