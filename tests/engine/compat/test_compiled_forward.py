"""``torch.compile`` by one entry of a config."""

import pytest
import torch
from torch import nn

from a2mim.engine.mmengine_fixes import compile_forward


@pytest.mark.parametrize('options', [None, False])
def test_without_the_entry_nothing_is_compiled(options):
    model = nn.Linear(2, 2)
    compile_forward(model, options)
    assert model._compiled_call_impl is None


def test_a_compiled_model_computes_the_same_under_the_same_names():
    model, image = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(1, 2)
    expected, names = model(image), [*model.state_dict()]
    compile_forward(model, dict(backend='eager'))
    torch.testing.assert_close(model(image), expected)
    assert [*model.state_dict()] == names


def test_steps_do_not_compile_anew():
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> torch.fx.GraphModule:
        compiled.append(graph)
        return graph

    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compile_forward(model, dict(backend=backend))
    for step in range(4):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.param_groups[0]['lr'] = 0.1 / (step + 1)
        optimizer.step()
    assert len(compiled) == 1
