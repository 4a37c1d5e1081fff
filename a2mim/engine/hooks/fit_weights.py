"""Start from, or test, a checkpoint of any system: fit it to the model, or say why it is not its.

Decoder, mask token and classifier are a few tensors of hundreds, so that a share of matches would
not show that one is missing.
"""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from a2mim.registry import HOOKS
from a2mim.weights.fit import check_classes, check_parts, fit_model, without_other_classes
from a2mim.weights.names import TRUNK


@HOOKS.register_module()
class FitWeightsHook(Hook):
    """Bring names and positions of a loaded checkpoint to those of the model.

    Before every other hook, so that all of them, and mmengine, meet names that they know. A run
    that is resumed is our own and stays untouched. The runner of the tools registers the hook.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace ``checkpoint['state_dict']``.

        Raises:
            ValueError: If it is not of this model, with the name of the file and what differs. A
                training may start with another number of classes, a test may not.
        """
        if runner._resume:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        try:
            state = fit_model(checkpoint, model)
            check_parts(state, model.state_dict())
            if isinstance(runner._train_loop, BaseLoop):
                state = without_other_classes(state, model, TRUNK)
            else:
                check_classes(state, model, TRUNK)
        except ValueError as error:
            raise ValueError(
                f'{runner._load_from} does not fit {type(model).__name__}: {error}'
            ) from error
        checkpoint['state_dict'] = state
