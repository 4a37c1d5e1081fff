# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # See masked image modelling
#
# [Open in Colab](https://colab.research.google.com/github/a2mim/a2mim/blob/main/examples/see_masked_image_modelling.ipynb)
#
# A small network learns to fill in masked blocks of photographs, on a CPU, in two to three
# minutes. You see what it is shown, how its reconstructions change while it trains, which
# frequencies it gets right, and what the mask token and the Fourier loss contribute. The
# photographs come with scikit-image: nothing is downloaded but the package.

# %%
import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec('a2mim') is None:
    wheels = sorted(pathlib.Path('..').glob('dist/a2mim-*.whl'))  # written by `make package`
    source = str(wheels[-1]) if wheels else 'git+https://github.com/a2mim/a2mim'
    if subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', source]).returncode:
        raise SystemExit(
            'without network: run `make package` in a clone, and this cell again; if packages are '
            'missing, `pip download -d wheels .` on another machine (docs/install.md)'
        )

# %%
import io
import time
import warnings
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image as Shown
from IPython.display import display
from PIL import Image

warnings.filterwarnings('ignore', message='IProgress')  # of tqdm, without ipywidgets

import a2mim
from a2mim.datasets import EpochSampler, MaskedImageDataset, channels_last_collate
from a2mim.masking import block_grid, random_patch_mask
from a2mim.models import A2MIM, TimmBackbone

torch.manual_seed(0)
print(a2mim.__version__, torch.__version__)

# %% [markdown]
# ## What the network is shown
#
# Each image is a crop of 64 pixels. Of its 8 × 8 blocks, 60 % are masked, and filled with the
# mean colour of the image.

# %%
SIZE, BLOCK, RATIO, BATCH = 64, 8, 0.6, 32


def photographs(split):
    return MaskedImageDataset(
        source=dict(type='PhotoPatches', split=split),
        pipeline=[
            dict(type='RandomResizedCrop', size=SIZE, scale=(0.3, 1.0)),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='PatchMask', image_size=SIZE, block_size=BLOCK, ratio=RATIO),
    )


def batches(dataset, epoch):
    sampler = EpochSampler(dataset, shuffle=True, seed=0)
    sampler.set_epoch(epoch)
    return torch.utils.data.DataLoader(
        dataset, BATCH, sampler=sampler, drop_last=True, collate_fn=channels_last_collate
    )


train = photographs('train')
held_out = next(iter(batches(photographs('val'), 0)))  # from regions that training never shows
print(
    len(train),
    'patches for training;',
    {name: tuple(value.shape) for name, value in held_out.items()},
)


# %%
def build(**token):
    """A ResNet-10 at output stride 8, the token after its second stage, one linear decoder."""
    backbone = TimmBackbone(
        'resnet10t', channels=(32, 64, 128, 256), output_stride=8, zero_init_last=False,
        mask_after='layer2', mask_token=token or None,
    )  # fmt: skip
    return partial(
        A2MIM,
        backbone=backbone,
        neck=dict(type='PixelShuffleDecoder'),
        data_preprocessor=dict(
            type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
        ),
        residual=True,  # the network predicts the deviation from the mean colour
    )


L1 = dict(type='L1Loss')
FOURIER = dict(type='FocalFrequencyLoss', loss_weight=0.1)
model = build()(head=dict(type='MIMHead', spatial=L1, spectral=FOURIER))


@torch.no_grad()
def look(model, batch=held_out):
    """Images, network input, output, and output in the masked blocks, as (N, H, W, 3) in 0 … 1."""
    model.eval()
    data = model.data_preprocessor(dict(batch))
    found = model.predict(data['image'], data['mask'])
    masked = found['mask'].repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)[:, None]
    found['pasted'] = torch.where(masked > 0, found['reconstruction'], found['image'])
    mean, std = (
        value.view(1, 3, 1, 1)
        for value in (model.data_preprocessor.mean, model.data_preprocessor.std)
    )
    pictures = {
        name: found[name] * std + mean for name in ('image', 'visible', 'reconstruction', 'pasted')
    }
    return {name: (x / 255).clamp(0, 1).permute(0, 2, 3, 1).numpy() for name, x in pictures.items()}


def rows(pictures, names, columns=8):
    return np.concatenate(
        [np.concatenate(list(pictures[name][:columns]), axis=1) for name in names]
    )


def show_figure(alt):
    """As JPEG, which photographs need a tenth of the bytes for."""
    file = io.BytesIO()
    plt.savefig(file, format='jpeg', dpi=80, bbox_inches='tight')
    plt.close()
    display(Shown(data=file.getvalue(), format='jpeg', alt=alt))


def show(picture, title, labels=()):
    plt.figure(figsize=(10, 10 * picture.shape[0] / picture.shape[1] + 0.4))
    plt.imshow(picture)
    plt.yticks([SIZE * (i + 0.5) for i in range(len(labels))], labels)
    plt.xticks([])
    plt.title(title)
    show_figure(title)


show(
    rows(look(model), ('image', 'visible')),
    'Held-out images, and what the network is shown',
    ('image', 'input'),
)


# %% [markdown]
# *Eight held-out images, and below them what the network is shown: 60 % of the blocks in the mean
# colour.*

# %% [markdown]
# ## Training
#
# A plain loop. Every ten steps at first, then every fifty, the reconstructions of the held-out
# images are kept.


# %%
def pretrain(model, steps, keep=()):
    """Train; returns the curve of the L1 loss, and pictures after the steps of ``keep``."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=steps, pct_start=0.15
    )
    curve, kept, epoch, begin = [], {}, 0, time.time()
    while len(curve) < steps:
        for batch in batches(train, epoch):
            if len(curve) in keep:
                kept[len(curve)] = rows(look(model), ('pasted',))
            model.train()
            data = model.data_preprocessor(batch, training=True)
            losses = model(image=data['image'], mask=data['mask'], mode='loss')
            optimizer.zero_grad()
            sum(losses.values()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            curve.append(float(losses['loss_spatial'].detach()))
            if len(curve) == steps:
                break
        epoch += 1
    kept[steps] = rows(look(model), ('pasted',))
    first, last = np.mean(curve[:10]), np.mean(curve[-10:])
    print(f'{steps} steps in {time.time() - begin:.0f} s, L1 {first:.3f} to {last:.3f}')
    return curve, kept


STEPS = 250
KEEP = (0, 10, 20, 30, 50, 75, 100, 150, 200)
curve, kept = pretrain(model, STEPS, KEEP)

# %%
plt.figure(figsize=(7, 2.6))
plt.plot(curve, alpha=0.3)
plt.plot(np.convolve(curve, np.ones(15) / 15, 'valid'), color='C0')
plt.xlabel('step')
plt.ylabel('L1 on masked pixels')
plt.title('Loss of the pre-training')
plt.show()

# %% [markdown]
# *L1 loss on masked pixels: of every step, and its mean over fifteen steps.*

# %% [markdown]
# The same images after 0, 10, 20, … 250 steps. Masked blocks start with the mean colour; after
# about 100 steps they continue the colours of their neighbours, after 250 steps coarse edges.
# Texture is not reconstructed.

# %%
frames = []
for step, picture in kept.items():
    frame = Image.fromarray((picture * 255).astype('uint8')).resize(
        (8 * SIZE, SIZE), Image.Resampling.NEAREST
    )
    canvas = Image.new('RGB', (frame.width, frame.height + 6), 'white')
    canvas.paste(frame, (0, 0))
    canvas.paste(
        (40, 90, 200), (0, frame.height + 1, int(frame.width * step / STEPS), frame.height + 6)
    )
    frames.append(canvas)
file = io.BytesIO()
frames = [frame.quantize(64) for frame in frames]
frames[0].save(
    file,
    'GIF',
    save_all=True,
    append_images=frames[1:],
    duration=[700] * (len(frames) - 1) + [2500],
    loop=0,
)
Shown(
    data=file.getvalue(),
    format='gif',
    alt='Reconstructions of eight images while the network trains',
)

# %% [markdown]
# *The masked blocks of eight images while the network trains. The bar shows how many of the 250
# steps are done.*

# %%
show(
    np.concatenate(
        [rows(look(model), ('image', 'visible')), *[kept[s] for s in (0, 20, 100, STEPS)]]
    ),
    'Reconstructions in masked blocks',
    ('image', 'input', '0 steps', '20', '100', str(STEPS)),
)


# %% [markdown]
# *Images, inputs of the network, and the reconstructions in masked blocks after 0, 20, 100 and 250
# steps.*

# %% [markdown]
# ## Spectra
#
# The amplitude of the reconstruction relative to that of the image, by frequency. 1 would be right.
# Low frequencies come close; medium ones are too weak, which one sees as blur; at the highest ones
# the output has the edges of blocks and noise, which an amplitude cannot tell from texture.


# %%
def amplitude(pictures):
    """Mean amplitude in rings of frequency, from 0 to π per pixel."""
    spectrum = np.abs(
        np.fft.fft2(pictures - pictures.mean((1, 2), keepdims=True), axes=(1, 2))
    ).mean((0, 3))
    y, x = np.meshgrid(*[np.fft.fftfreq(SIZE)] * 2, indexing='ij')
    ring = np.minimum((2 * np.hypot(x, y) * 16).astype(int), 16)
    return np.array([spectrum[ring == r].mean() for r in range(16)])


def relative(model):
    pictures = look(model)
    return amplitude(pictures['reconstruction']) / amplitude(pictures['image'])


frequencies = (np.arange(16) + 0.5) / 16
plt.figure(figsize=(7, 2.8))
plt.plot(frequencies, relative(model), '.-')
plt.axhline(1, color='0.5', linestyle=':')
plt.xlabel('frequency (π per pixel)')
plt.ylabel('output / image')
plt.title('Amplitude of the reconstruction')
plt.show()

# %% [markdown]
# *Amplitude of the reconstruction divided by that of the image, by frequency. The dotted line is
# the image.*

# %% [markdown]
# ## What the mask token and the Fourier loss do
#
# Two more networks, of the same steps and seed: one whose token is fixed at zero, so that nothing
# marks masked positions, and one without the Fourier loss.

# %%
torch.manual_seed(0)
without_token = build(value='zero')(head=dict(type='MIMHead', spatial=L1, spectral=FOURIER))
torch.manual_seed(0)
without_fourier = build()(head=dict(type='MIMHead', spatial=L1))
networks = {
    'A2MIM': model,
    'token fixed at 0': without_token,
    'without Fourier loss': without_fourier,
}
for name in list(networks)[1:]:
    print(name, end=': ')
    pretrain(networks[name], STEPS)


# %%
def error(model):
    """L1 on masked pixels of held-out images, in units of 0 … 1."""
    pictures = look(model)
    masked = (pictures['visible'] != pictures['image']).any(-1)
    return float(np.abs(pictures['reconstruction'] - pictures['image'])[masked].mean())


pictures = look(model)
masked = (pictures['visible'] != pictures['image']).any(-1)
print(f'{"mean fill":22} L1 {np.abs(pictures["visible"] - pictures["image"])[masked].mean():.4f}')
plt.figure(figsize=(7, 2.8))
for name, network in networks.items():
    print(f'{name:22} L1 {error(network):.4f}')
    plt.plot(frequencies, relative(network), '.-', label=name)
plt.axhline(1, color='0.5', linestyle=':')
plt.xlabel('frequency (π per pixel)')
plt.ylabel('output / image')
plt.title('Amplitudes of three networks')
plt.legend(fontsize=8)
plt.show()

# %% [markdown]
# *Amplitudes of the three networks divided by those of the images: the curves hardly differ.*

# %%
show(
    np.concatenate(
        [
            rows(pictures, ('image',)),
            *[rows(look(network), ('pasted',)) for network in networks.values()],
        ]
    ),
    'The same images by three networks',
    ('image', *networks),
)


# %% [markdown]
# *Images, and the reconstructions in their masked blocks by the three networks.*

# %% [markdown]
# The three are within 1 % of each other: in 250 steps of one seed neither part shows an effect on
# reconstructions. The paper's comparison is one of accuracy after fine-tuning, on ImageNet;
# [our studies](https://github.com/a2mim/a2mim/blob/main/docs/evidence.md) make it on small data.

# %% [markdown]
# ## Mask ratio and block size
#
# The network was trained with 60 % of blocks of 8 pixels masked. Other masks show how far that
# carries. With ipywidgets (`pip install ipywidgets`) there are sliders below; without it, a fixed
# table.


# %%
def with_mask(ratio, block, seed=0, columns=4):
    """Masked input and reconstruction of held-out images under another mask."""
    rng = np.random.default_rng(seed)
    grid = block_grid(SIZE, block)
    masks = np.stack([random_patch_mask(grid, ratio, rng) for _ in held_out['image']])
    masks = masks.repeat(block // BLOCK, 1).repeat(
        block // BLOCK, 2
    )  # in the blocks of the training
    pictures = look(model, {**held_out, 'mask': torch.from_numpy(masks)})
    return rows(pictures, ('visible', 'pasted'), columns)


figure, axes = plt.subplots(2, 3, figsize=(10, 4.2))
for axis, (block, ratio) in zip(
    axes.flat, [(b, r) for b in (8, 16) for r in (0.3, 0.6, 0.9)], strict=True
):
    axis.imshow(with_mask(ratio, block))
    axis.set(title=f'{ratio:.0%} of blocks of {block} pixels', xticks=[], yticks=[])
plt.tight_layout()
show_figure('Masked inputs and reconstructions under six masks')

# %% [markdown]
# *Inputs of the network, and below them the reconstructions, for two block sizes and three mask
# ratios.*

# %%
if importlib.util.find_spec('ipywidgets') is None:
    print('pip install ipywidgets, and start again, for sliders')
else:
    from ipywidgets import interact

    @interact(ratio=(0.1, 0.95, 0.05), block=[8, 16, 32], seed=(0, 9))
    def draw(ratio=0.6, block=8, seed=0):
        show(with_mask(ratio, block, seed, 8), f'{ratio:.0%} of blocks of {block} pixels')


# %% [markdown]
# ## Next
#
# `model.backbone.model` is the plain timm network: `torch.save(model.backbone.model.state_dict(),
# 'resnet10t.pth')`. On your own images: `a2mim pretrain --data DIR`. Whether the features are
# worth something, a picture does not tell: see [Judge
# it](https://github.com/a2mim/a2mim/blob/main/docs/judge.md).
