"""Positions of one image size for a timm model of another: embeddings and relative tables."""

import sys
from collections.abc import Mapping

from torch import Tensor, nn

from a2mim.checkpoint.matching import compare

TABLE = 'relative_position_bias_table'
SHARED = f'rel_pos_bias.{TABLE}'


def fit_positions(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give every block of ``model`` its own table where the file shares one, and resize.

    timm's rule of the family interpolates, bicubic for embeddings; extra rows of tables and class
    tokens stay as they are. A state that fits is returned as it is, and so is one in which other
    things differ too: that is for the comparison to report.
    """
    state = copy_shared_table(state, model)
    report = compare(model, state)
    names = [name for name, _, _ in report.mismatched]
    # timm asks the model for the block of each table.
    astray = any(name.endswith(TABLE) for name in report.unexpected)
    convert = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if not names or convert is None or astray or not all('pos' in name for name in names):
        return state
    return convert(dict(state), model)


def copy_shared_table(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The one table of BEiT's pre-training for every block of a model with a table each."""
    state = dict(state)
    own = model.state_dict()
    if SHARED in state and SHARED not in own:
        shared = state.pop(SHARED)
        for name in own:
            if name.endswith(f'.attn.{TABLE}'):
                state[name] = shared
    return state
