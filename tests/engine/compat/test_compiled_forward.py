"""``torch.compile`` by one entry of a config."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import lookup_backend

from a2mim.engine.mmengine_fixes import OptimWrapper, compile_forward
from a2mim.engine.pictures import ReconstructionHook
from a2mim.models import A2MIM
from a2mim.registry import MODELS


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


class Graphs(list):
    """A backend that keeps what it was given, and runs it without code of its own."""

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable:
        self.append((graph, inputs))
        return lookup_backend('aot_eager')(graph, inputs)


@pytest.fixture
def model() -> A2MIM:
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='A2MIM',
            backbone=dict(
                type='TimmBackbone',
                model_name='resnet10t',
                mask_after='layer3',
                grad_checkpointing=True,
            ),
            neck=dict(type='PixelShuffleDecoder'),
            head=dict(
                type='MIMHead',
                spatial=dict(type='L1Loss'),
                spectral=dict(type='FocalFrequencyLoss', loss_weight=0.5),
            ),
            data_preprocessor=dict(type='ImagePreprocessor', mean=[120.0] * 3, std=[60.0] * 3),
        )
    ).train()


def step(model: A2MIM, batch: dict) -> dict[str, Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return model.train_step(batch, OptimWrapper(optimizer))


def batch_of(number: int, seed: int = 0) -> dict[str, Tensor]:
    image = torch.randint(0, 256, (number, 3, 64, 64), dtype=torch.uint8)
    mask = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8).expand(number, 2, 2)
    return dict(image=image, mask=mask)


@pytest.mark.integration
def test_a_step_is_one_graph_from_the_bytes_of_the_images_to_the_loss(model):
    graphs, plain = Graphs(), copy.deepcopy(model)
    compile_forward(model, dict(backend=graphs))
    for _ in range(3):
        batch = batch_of(4)
        torch.testing.assert_close(step(model, batch), step(plain, batch))
    assert len(graphs) == 1
    assert [x.dtype for x in graphs[0][1] if isinstance(x, Tensor)].count(torch.uint8) == 1
    # The last batch of an epoch: one more graph, whatever its size.
    for number in (3, 2, 4):
        batch = batch_of(number)
        torch.testing.assert_close(step(model, batch), step(plain, batch))
    assert len(graphs) == 2
    torch.compiler.reset()


@pytest.mark.integration
def test_pictures_and_other_calls_are_not_compiled_for(model):
    graphs, batch = Graphs(), batch_of(2)
    expected = model.eval().val_step(batch)
    compile_forward(model, dict(backend=graphs))
    rows = ReconstructionHook(1)._rows(model, batch)
    assert not graphs and len(rows['image']) == 2
    torch.testing.assert_close(model.val_step(batch), expected)
    torch.compiler.reset()
