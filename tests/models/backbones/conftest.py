"""What tests of the key maps share."""

from collections.abc import Callable, Iterable

import pytest
import torch

from a2mim.weights.names import to_a2mim


@pytest.fixture
def our_names() -> Callable[[Iterable[str]], dict[str, str]]:
    """From published parameters of a backbone to ours, both without ``backbone.``."""

    def translate(published: Iterable[str]) -> dict[str, str]:
        # Numbers in place of weights come out of the map behind their new name.
        names = list(published)
        numbered = {f'backbone.{name}': torch.tensor(i) for i, name in enumerate(names)}
        mapped = {int(i): key for key, i in to_a2mim(numbered).items()}
        return {names[i]: key.removeprefix('backbone.') for i, key in mapped.items()}

    return translate
