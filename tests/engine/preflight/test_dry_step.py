"""One step before the run: what it notices."""

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from a2mim.engine.preflight import check_unused, dry_step, example_batch, losses_and_gradients


def test_losses_and_gradients_are_those_of_a_training_step(build_runner):
    runner = build_runner()
    batch = example_batch(runner.train_dataloader)
    losses, gradients = losses_and_gradients(runner, batch)
    data = runner.model.data_preprocessor(batch, True)
    loss, _ = runner.model.parse_losses(runner.model(**data, mode='loss'))
    loss.backward()
    assert torch.equal(losses['loss'], loss)
    for name, parameter in runner.model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=0, atol=0)


def test_what_it_found_is_one_line(build_runner):
    line = dry_step(build_runner())
    assert line.startswith('dry step: image (4, 3, 32, 32), label (4,) give loss 1.')
    assert 'gradients, all finite' in line
    assert 'without one' not in line


def test_mixed_precision_is_tried_as_it_will_be_used(build_runner):
    runner = build_runner(optim_wrapper__type='AmpOptimWrapper')
    seen = []
    head = runner.model.backbone.model.get_classifier()
    head.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    dry_step(runner)
    assert seen == [torch.bfloat16]


def test_weights_that_give_no_number_are_refused(build_runner):
    runner = build_runner()
    nn.init.constant_(next(runner.model.backbone.parameters()), float('nan'))
    with pytest.raises(ValueError, match=r'not finite from the first step on: loss, .*, …'):
        dry_step(runner)


def test_a_gradient_alone_that_is_no_number_is_named(build_runner):
    runner = build_runner()
    head = runner.model.backbone.model.get_classifier()
    head.bias.register_hook(lambda gradient: gradient * float('inf'))
    with pytest.raises(ValueError, match=r'first step on: backbone\.model\.head\.fc\.bias;'):
        dry_step(runner)


def test_shapes_that_do_not_fit_are_one_line_with_the_batch(build_runner):
    runner = build_runner()
    runner.model.backbone.model.head.fc = nn.Linear(7, 3)
    with pytest.raises(ValueError, match=r'a batch with image \(4, 3, 32, 32\), .* fails: mat1'):
        dry_step(runner)


def test_a_parameter_without_a_gradient_is_named(build_runner):
    runner = build_runner()
    runner.model.forgotten = nn.Parameter(torch.zeros(1))
    assert '1 parameters without one (forgotten)' in dry_step(runner)


def test_a_frozen_parameter_is_not_missed(build_runner):
    runner = build_runner()
    runner.model.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)
    assert 'without one' not in dry_step(runner)


@pytest.fixture
def wrapped(tmp_path) -> DistributedDataParallel:
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/meeting', rank=0, world_size=1
    )
    yield lambda **options: DistributedDataParallel(nn.Linear(1, 1), **options)
    torch.distributed.destroy_process_group()


def test_processes_would_wait_for_a_missing_gradient(wrapped):
    with pytest.raises(ValueError, match=r'\(a, b, c, …\).*find_unused_parameters=True'):
        check_unused(wrapped(), ['a', 'b', 'c', 'd'])
    check_unused(wrapped(), [])
    check_unused(wrapped(find_unused_parameters=True), ['a'])
    check_unused(nn.Linear(1, 1), ['a'])


def test_a_bound_of_gradients_that_is_no_number_is_refused_before_the_run(build_runner):
    with pytest.raises(ValueError, match='max_norm=nan must be'):
        build_runner(optim_wrapper__clip_grad=dict(max_norm=float('nan')))
