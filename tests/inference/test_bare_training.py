"""A loaded model is a plain module: a loop of PyTorch trains it as mmengine does."""

import torch
from mmengine.optim import OptimWrapper

import a2mim
from small_models import pretraining, save_checkpoint

STEPS = 3


def batches():
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        image = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
        mask = (torch.rand(2, 4, 4, generator=generator) < 0.5).to(torch.uint8)
        yield dict(image=image, mask=mask)


def bare_steps(model):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    history = []
    for batch in batches():
        batch = model.data_preprocessor(batch, training=True)
        losses = model(image=batch['image'], mask=batch['mask'], mode='loss')
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.detach())
    return torch.stack(history)


def mmengine_steps(model):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    wrapper = OptimWrapper(optimizer)
    return torch.stack([model.train_step(batch, wrapper)['loss'].detach() for batch in batches()])


def test_a_bare_loop_takes_the_same_steps_as_mmengine(tmp_path):
    save_checkpoint(pretraining(), tmp_path / 'a.pth')
    bare, wrapped = (a2mim.load_model(tmp_path / 'a.pth') for _ in range(2))
    losses = bare_steps(bare)
    torch.testing.assert_close(losses, mmengine_steps(wrapped), rtol=0, atol=0)
    assert len(losses.unique()) == STEPS
    torch.testing.assert_close(bare.state_dict(), wrapped.state_dict(), rtol=0, atol=0)
    untouched = a2mim.load_model(tmp_path / 'a.pth').state_dict()
    moved = [key for key, tensor in bare.state_dict().items() if (tensor != untouched[key]).any()]
    assert moved == list(untouched)
