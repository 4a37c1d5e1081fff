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
# # Your images, your backbone
#
# [Open in Colab](https://colab.research.google.com/github/a2mim/a2mim/blob/main/examples/your_images_your_backbone.ipynb)
#
# From a folder of images to a pre-trained network, on a CPU, in about a minute. You write a folder
# of 12-bit grey images, one of them damaged, and see what the package finds in it; you choose where
# the mask token goes, in a timm model and in a network of your own; you pre-train, stop, resume,
# and take the weights. To use your own folder, put its path in the place of `photos` or `deep`
# below. Nothing is downloaded but the package.

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
import os
import re
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tifffile
import torch
from PIL import Image

warnings.filterwarnings('ignore', message='IProgress')  # of tqdm, without ipywidgets

import a2mim
from a2mim.datasets import PhotoPatches, read_image
from a2mim.masking import block_grid, random_patch_mask, upsample_mask

folder = tempfile.TemporaryDirectory()  # removed at the end; os.chdir to one of yours to keep it
os.chdir(folder.name)
plt.rcParams['savefig.dpi'] = plt.rcParams['figure.dpi'] = 80


def run(*lines, show='.', code=0, stop_at=None):
    """Run commands side by side, and print the lines of their output in which ``show`` is found.

    ``code`` is the exit code that is expected. At a line in which ``stop_at`` is found the command
    gets the signal that Slurm sends before the end of a job.
    """
    out = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    out['env'] = {**os.environ, 'COLUMNS': '130', 'FORCE_COLOR': ''}  # no bars of progress
    started = [subprocess.Popen([sys.executable, '-m', *line.split()], **out) for line in lines]
    for line, process in zip(lines, started, strict=True):
        said = ''
        for text in process.stdout:
            said += text
            if stop_at and re.search(stop_at, text):
                process.terminate()
                stop_at = None  # once
        said = re.sub(r'(?m)^[\d/]+ [\d:]+ - mmengine - \w+ - ', '', said)
        said = said.replace(f'{os.getcwd()}/', '')
        shown = [text for text in said.splitlines() if re.search(show, text)]
        print(f'$ {line}', *shown, f'[exit code {process.wait()}]', '', sep='\n')
        if process.returncode != code:
            raise SystemExit(f'expected exit code {code}; all of the output:\n{said}')


# %% [markdown]
# ## Two folders of images
#
# `photos` has colour JPEGs. `deep` stands for a series from a microscope: the values are simulated
# counts of photons, up to 4095, in 16-bit TIFF files. One of these is cut off in the middle, as by
# an interrupted copy. The pictures come from photographs in scikit-image.


# %%
def grey(patch, rng):
    """Counts of photons, (H, W), uint16, at most 4095, as by a 12-bit camera."""
    return rng.poisson(patch[0].numpy() / 255 * 3500).clip(0, 4095).astype(np.uint16)


rng = np.random.default_rng(0)
for split, name in (('train', 'deep'), ('val', 'held_out')):
    patches = PhotoPatches(split, stride=16)
    for directory in (Path(name), Path('photos')):
        directory.mkdir(exist_ok=True)
    for index in range(len(patches)):
        title = patches.classes[patches.label(index)]
        if title in ('brick', 'camera', 'coins', 'grass', 'gravel', 'moon'):
            tifffile.imwrite(f'{name}/{title}_{index:03}.tif', grey(patches.load(index), rng))
        elif split == 'train' and index % 4 == 0:
            picture = Image.fromarray(patches.load(index).permute(1, 2, 0).numpy())
            picture.save(f'photos/{title}_{index:03}.jpg', quality=95)

files = sorted(Path('deep').iterdir())
damaged = files[7]
damaged.write_bytes(damaged.read_bytes()[:9000])
print({name: len(list(Path(name).iterdir())) for name in ('photos', 'deep', 'held_out')})

# %% [markdown]
# `a2mim verify` reads every image as training does, names those that cannot be read, and ends with
# exit code 1 if there are any.

# %%
run('a2mim verify photos')
run('a2mim verify deep', code=1)

# %% [markdown]
# The warning is the second finding: 12-bit values fill a sixteenth of a 16-bit type. Scaled by the
# range of the type, such images are almost black, and so would be the input of a network. With
# `scale=percentile` the values that are used become 0 to 255.

# %%
picture = read_image(str(files[150]), 1)[0].numpy()
low, high = np.percentile(picture, [0.1, 99.9])
figure, axes = plt.subplots(1, 2, figsize=(6, 3))
axes[0].imshow(picture, 'gray', vmin=0, vmax=65535)
axes[0].set_title('scale=dtype: 0 … 65535')
axes[1].imshow(picture, 'gray', vmin=low, vmax=high)
axes[1].set_title(f'scale=percentile: {low:.0f} … {high:.0f}')
for axis in axes:
    axis.axis('off')
plt.show()

# %% [markdown]
# *One image of `deep`, scaled by the range of its type and by its own percentiles.*

# %% [markdown]
# ## What the package chooses
#
# `a2mim pretrain --data DIR` looks at a sample of the images, chooses the rest, and says why. With
# `--dry-run` it tries one step and ends. Channels and scale are found: nothing about 12 bits has to
# be stated.

# %%
run(
    'a2mim pretrain --data deep --backbone resnet10t --size 64 --dry-run --out timm',
    show=r'^\w+ {2,}|^ {8}',
)

# %% [markdown]
# ## Where the mask token goes in a timm model
#
# The token is added to the features at masked positions after one layer. `a2mim models` lists the
# layers of any timm model where it can go, with the sides of mask blocks that fit there.

# %%
run('a2mim models resnet10t --img-size 64 --model-options output_stride=8')

# %% [markdown]
# The dry run has chosen `layer3`, as in the paper, and `output_stride=8`: a ResNet has features of
# 32 pixels at its end otherwise, of which a crop of 64 pixels has four. Another layer is set in
# `timm/config.py`, or by `a2mim pretrain timm/config.py --cfg-options
# model.backbone.mask_after=layer2`. `layer1` allows blocks of 4 pixels, `layer3` not. Small blocks
# are filled in from their edges, large ones hide whole objects; the picture has 60 % of blocks of
# 4, 8, 16 and 32 pixels.

# %%
held_out = sorted(Path('held_out').iterdir())
crop = read_image(str(held_out[41]), 1)[0, 16:80, 16:80].float()
figure, axes = plt.subplots(1, 4, figsize=(10, 2.7))
for axis, block in zip(axes, (4, 8, 16, 32), strict=True):
    blocks = random_patch_mask(block_grid(64, block), 0.6, np.random.default_rng(1))
    masked = upsample_mask(torch.from_numpy(blocks)[None], (64, 64))[0]
    axis.imshow(np.ma.masked_array(crop, masked), 'gray', vmin=crop.min(), vmax=crop.max())
    axis.set(title=f'blocks of {block} pixels', xticks=[], yticks=[], facecolor='C0')
plt.show()

# %% [markdown]
# *One crop with 60 % of its blocks masked, in blue, for four block sizes.*

# %% [markdown]
# ## A network of your own
#
# A file with a function, or a class, that returns a `torch.nn.Module`. Nothing of this package is
# in it. It takes one channel, as the images have.

# %%
Path('net.py').write_text('''from torch import nn


def layer(before, after, stride):
    convolution = nn.Conv2d(before, after, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.GELU())


class Small(nn.Module):
    """Images (B, 1, H, W) to features (B, 256, H / 8, W / 8)."""

    def __init__(self):
        super().__init__()
        self.stem = layer(1, 32, 2)
        self.early = nn.Sequential(layer(32, 64, 2), layer(64, 64, 1))
        self.middle = nn.Sequential(layer(64, 128, 2), layer(128, 128, 1))
        self.late = nn.Sequential(layer(128, 256, 1), layer(256, 256, 1))

    def forward(self, image):
        return self.late(self.middle(self.early(self.stem(image))))
''')
print('net.py is written')

# %% [markdown]
# ## Pre-train, stop, resume
#
# Sixteen epochs of nine steps. During the sixth the run gets a signal, as from a cluster that needs
# the machine: it finishes its step, saves, and ends with exit code 75, *try again*. The damaged
# file is named when it is met, and listed in `run/bad_files.txt`; another image takes its place.

# %%
COMMAND = 'a2mim pretrain --data deep --backbone net.py:Small --size 64 --epochs 16 --out run'
run(
    COMMAND,
    show=r'^backbone|^mask|^length|\(probe\)|cannot read|replace|signal|75\)',
    code=75,
    stop_at=r'\(train\) +\[6\]',
)

# %% [markdown]
# The same command with `--resume` continues at that step: the result is, bit for bit, that of a run
# without the stop.

# %%
run(f'{COMMAND} --resume', show=r'^resuming|\(probe\)|^complete|^in run|^next')

# %% [markdown]
# `masked_l1` is the error of the reconstruction on masked pixels, `mean_fill_l1` that of the
# image's mean grey value, both on images of the training. The network starts worse than that value,
# and ends better: it has learnt something.
#
# ## Look
#
# The checkpoint knows that its network is made by a Python file, and nothing runs that on the word
# of a checkpoint: `config=` says that you want it. Images from regions that the training never saw,
# the network's input, its output, and the output in the masked blocks.

# %%
model = a2mim.load_model('run/latest.pth', config='run/config.py')
shown = [a2mim.reconstruct(model, path, seed=3) for path in held_out[9::16]]
for one in shown:
    one['pasted'] = np.where(one['mask'] > 0, one['reconstruction'], one['image'])
names = ('image', 'visible', 'reconstruction', 'pasted')
rows = [[np.pad(one[name], 1, constant_values=255) for one in shown] for name in names]
plt.figure(figsize=(9, 6.2))
plt.imshow(np.block(rows), 'gray')
plt.yticks([66 * (row + 0.5) for row in range(4)], names)
plt.xticks([])
plt.title('One held-out image of each photograph')
plt.show()

# %% [markdown]
# *Held-out images: as stored, as the network is shown them, its output, and its output in masked
# blocks.*

# %% [markdown]
# After 144 steps the network continues light and dark next to a block, such as a coin or the joints
# between bricks. It does not continue texture. In numbers, over all held-out images:

# %%
values = {'mean fill': 'image', 'network': 'reconstruction'}
errors = {name: [] for name in values}
for path in held_out:
    one = {key: value.astype(float) for key, value in a2mim.reconstruct(model, path).items()}
    masked = one['mask'] > 0
    for name, key in values.items():
        guess = one[key][masked] if name == 'network' else one['image'][~masked].mean()
        errors[name].append(np.abs(guess - one['image'][masked]).mean())
for name, found in errors.items():
    print(f'{name:10} L1 {np.mean(found):.1f} of 255 on masked pixels of {len(found)} images')

# %% [markdown]
# ## What a run leaves
#
# `config.py` is the run with its reasons: edit it, or repeat the run with it. `index.html` is a
# page with pictures, curves and commands to open in a browser. `latest.pth` is the checkpoint.

# %%
for path in sorted(Path('run').glob('[!.]*')):
    size = '' if path.is_dir() else f'{path.stat().st_size / 1000:8.0f} kB'
    print(f'{path.name:20} {size}')
config = Path('run/config.py').read_text().replace(f'{os.getcwd()}/', '')
print('', *config.splitlines()[:30], '…', sep='\n')

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
for axis, name in zip(axes, ('loss', 'probe'), strict=True):
    axis.imshow(Image.open(f'run/{name}.png'))
    axis.set_title(f'run/{name}.png', fontsize=9)
    axis.axis('off')
plt.tight_layout()
plt.show()

# %% [markdown]
# *The pictures that the run leaves: losses by iteration, and what is measured of the features by
# epoch.*

# %% [markdown]
# ## Take the weights
#
# They have the names of your network: it loads them without this package. For a timm model `a2mim
# extract run/latest.pth backbone.pth` writes the file.

# %%
torch.save(model.backbone.model.state_dict(), 'small.pth')

from net import Small

network = Small()
print(network.load_state_dict(torch.load('small.pth')))
print(f'{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters')

# %% [markdown]
# ## Next
#
# - [Use the features](https://github.com/a2mim/a2mim/blob/main/examples/use_the_features.ipynb):
#   embed images, find neighbours, export.
# - [Your data](https://github.com/a2mim/a2mim/blob/main/docs/own_data.md) has every choice and its
#   reason; with `--time 4h` a run ends by the clock.
# - [Grey, 16-bit and multi-band
#   images](https://github.com/a2mim/a2mim/blob/main/docs/data_formats.md): GeoTIFF, DICOM, missing
#   values.
# - `a2mim finetune --data CLASS_FOLDERS --from run` trains a classifier.
