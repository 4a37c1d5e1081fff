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
# # Use the features
#
# [Open in Colab](https://colab.research.google.com/github/a2mim/a2mim/blob/main/examples/use_the_features.ipynb)
#
# What a pre-trained network is good for, on a CPU, in about a minute: you pre-train a small ViT on
# handwritten digits without their labels, turn images into vectors, find the nearest neighbours of
# an image, see what a linear classifier makes of the vectors, and take the network to timm,
# HuggingFace, ONNX and torchvision. The digits come with scikit-learn: nothing is downloaded but
# the package. The exports to HuggingFace and ONNX need `pip install 'a2mim[export]'`; without it
# they are left out.

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
import torch
from PIL import Image

warnings.filterwarnings('ignore', message='IProgress')  # of tqdm, without ipywidgets

import timm
import torchvision

import a2mim
from a2mim.datasets import Digits
from a2mim.evaluation import knn_accuracy, linear_probe_accuracy
from a2mim.inference import as_batch
from a2mim.masking import block_grid, random_patch_mask
from a2mim.models import A2MIM, TimmBackbone

folder = tempfile.TemporaryDirectory()  # removed at the end; os.chdir to one of yours to keep it
os.chdir(folder.name)
plt.rcParams['savefig.dpi'] = plt.rcParams['figure.dpi'] = 80


def run(*lines, show='.', codes=(0, 0, 0)):
    """Run commands side by side, and print the lines of their output in which ``show`` is found.

    ``codes`` are the exit codes that are expected.
    """
    out = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    out['env'] = {**os.environ, 'COLUMNS': '130', 'FORCE_COLOR': ''}  # no bars of progress
    started = [subprocess.Popen([sys.executable, '-m', *line.split()], **out) for line in lines]
    for line, process, code in zip(lines, started, codes, strict=False):
        said, _ = process.communicate()
        said = re.sub(r'(?m)^[\d/]+ [\d:]+ - mmengine - \w+ - ', '', said)
        said = said.replace(f'{os.getcwd()}/', '')
        shown = [text for text in said.splitlines() if re.search(show, text)]
        print(f'$ {line}', *shown, f'[exit code {process.wait()}]', '', sep='\n')
        if process.returncode != code:
            raise SystemExit(f'expected exit code {code}; all of the output:\n{said}')


# %% [markdown]
# ## Images
#
# 1,297 digits to train on and 500 to test on, 8 × 8 pixels each, as PNG files. The folders are
# named by their class, which the pre-training does not look at.

# %%
for split in ('train', 'test'):
    digits = Digits(split)
    for index in range(len(digits)):
        path = Path(f'digits/{split}/{digits.label(index)}/{index:04}.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.load(index)[0].numpy()).save(path)
    print(split, len(digits))

# %% [markdown]
# ## Pre-train
#
# The package ships its experiments as configs; `a2mim recipes cp` writes one to a file. This one
# pre-trains a ViT of two blocks, 64 wide: A2MIM masks 60 % of the patches, and the network fills
# them in. We stop after 60 of its 100 epochs, 1,200 steps.

# %%
run('a2mim recipes cp a2mim_vit-2x64_1xb64-cos-100e_digits-16px digits.py')
run(
    'a2mim pretrain digits.py --work-dir run --cfg-options train_cfg.max_epochs=60',
    show='^complete|at the start|^next',
)

# %% [markdown]
# ## Images to vectors
#
# `a2mim.load_model` returns a plain `torch.nn.Module`. `a2mim.embed` gives one vector for each
# image of a folder: the features of the backbone, averaged over the image. With a file name as
# third argument it writes them, and resumes after a kill; so does `a2mim embed digits
# run/latest.pth --out vectors.npz`. The same network with random weights is the baseline: an
# untrained network has features too.

# %%
torch.manual_seed(0)
networks = {
    'pre-trained': a2mim.load_model('run/latest.pth'),
    'untrained': a2mim.load_model('digits.py', pretrained=False),
}
found = {
    name: {split: a2mim.embed(f'digits/{split}', network) for split in ('train', 'test')}
    for name, network in networks.items()
}
print({split: vectors.vectors.shape for split, vectors in found['pre-trained'].items()})
print(found['pre-trained']['test'].names[:3])

# %% [markdown]
# ## Nearest neighbours
#
# In the first column one test image of each digit, the first of its class; next to it the eight
# training images whose vectors have the smallest angle to its own. A frame is blue where the digit
# is the same and orange where it is another one.


# %%
def labels(vectors):
    """(N,), from the names of the folders."""
    return np.array([int(name.split('/')[0]) for name in vectors.names])


def framed(split, name, colour):
    """The image enlarged, in a frame."""
    picture = Image.open(f'digits/{split}/{name}').convert('RGB')
    canvas = Image.new('RGB', (44, 44), colour)
    canvas.paste(picture.resize((38, 38), Image.Resampling.NEAREST), (3, 3))
    return np.asarray(canvas)


def neighbours(train, test, columns=8):
    """Rows of pictures: an image of each class, and its nearest neighbours."""
    unit = {name: v.vectors / np.linalg.norm(v.vectors, axis=1, keepdims=True)
            for name, v in (('train', train), ('test', test))}  # fmt: skip
    classes, rows = labels(train), []
    for digit in range(10):
        query = int(np.flatnonzero(labels(test) == digit)[0])
        nearest = np.argsort(-unit['train'] @ unit['test'][query])[:columns]
        row = [framed('test', test.names[query], 'white')]
        for index in nearest:
            same = classes[index] == digit
            row.append(framed('train', train.names[index], 'royalblue' if same else 'darkorange'))
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows)


figure, axes = plt.subplots(1, 2, figsize=(10, 5.7))
for axis, (name, vectors) in zip(axes, found.items(), strict=True):
    axis.imshow(neighbours(vectors['train'], vectors['test']))
    axis.set_title(name)
    axis.axis('off')
plt.tight_layout()
plt.show()

# %% [markdown]
# *One test image of each digit and its nearest training images, by the vectors of the pre-trained
# and of the untrained network.*

# %% [markdown]
# ## A linear probe
#
# Logistic regression on the frozen vectors, with 5, 20 and all labels of each class, and the vote
# of five neighbours. The third row takes the pixels themselves as the vector.


# %%
def pixels(split, names):
    """(N, 64), in 0 … 1."""
    images = [np.asarray(Image.open(f'digits/{split}/{name}')) for name in names]
    return np.stack(images).reshape(len(names), -1) / 255


def few(train, number):
    """``number`` images of each class, evenly spread over the file."""
    values, classes = train
    places = [np.flatnonzero(classes == digit) for digit in range(10)]
    chosen = [one[np.linspace(0, len(one) - 1, number).astype(int)] for one in places]
    return values[np.concatenate(chosen)], classes[np.concatenate(chosen)]


parts = {
    name: [(vectors[split].vectors, labels(vectors[split])) for split in ('train', 'test')]
    for name, vectors in found.items()
}
one = found['pre-trained']
parts['pixels'] = [(pixels(split, one[split].names), labels(one[split])) for split in one]
table = {}
print(f'{"top-1, %":14} {"5 labels":>9} {"20 labels":>9} {"all":>9} {"5 neighbours":>13}')
for name, (train, test) in parts.items():
    table[name] = [linear_probe_accuracy(few(train, number), test) for number in (5, 20)]
    table[name].append(linear_probe_accuracy(train, test))
    row = [*table[name], knn_accuracy(train, test, neighbours=5)]
    print(f'{name:14} {row[0]:9.1f} {row[1]:9.1f} {row[2]:9.1f} {row[3]:13.1f}')

plt.figure(figsize=(6, 3))
for name, values in table.items():
    plt.plot(['5 a class', '20 a class', 'all 1,297'], values, '.-', label=name)
plt.ylabel('top-1, %')
plt.title('Linear probe on 500 test images')
plt.legend(fontsize=8)
plt.show()

# %% [markdown]
# *Accuracy on 500 test images by the number of labels: vectors of both networks, and the pixels
# themselves.*

# %% [markdown]
# On the vectors of the pre-trained network the probe is better by more than ten points than on
# those of the untrained one, without a label in the pre-training. It is not better than on the
# pixels: these digits are all centred and of one size, so that equal digits have equal pixels. What
# counts for a network of your own is the comparison with its untrained self, and fine-tuning. This
# is one seed; [Does pre-training help?](https://github.com/a2mim/a2mim/blob/main/docs/evidence.md)
# has studies of several.

# %% [markdown]
# ## Export
#
# `a2mim export` writes the backbone for another library, lets that library read the file, and
# compares what it computes with the original. A file that fails is not written.

# %%
extras = {
    'huggingface': ('transformers', 'vit_folder'),
    'onnx': ('onnxruntime', 'vit.onnx'),
}
targets = {'timm': 'vit.pth'}
for target, (library, name) in extras.items():
    if importlib.util.find_spec(library) is None:
        print(f"no {library}: pip install 'a2mim[export]', and start again, for {target}")
    else:
        targets[target] = name
run(
    *[f'a2mim export run/latest.pth {name} --to {target}' for target, name in targets.items()],
    show='difference|wrote',
)

# %% [markdown]
# Now by hand, as in a program that knows nothing of this package. `ours` are the features of every
# eighth test image, 64 values for each of 4 × 4 patches.

# %%
images = [Path('digits/test') / name for name in found['pre-trained']['test'].names[::8]]
batch = as_batch(networks['pre-trained'], images)  # resized and normalised, (B, 3, 16, 16)
ours = a2mim.features(networks['pre-trained'], images)  # (B, 64, 4, 4)
tokens = ours.flatten(2).transpose(1, 2).numpy()  # (B, 16, 64)


def compare(library, theirs):
    print(f'{library:14} {theirs.shape}, largest difference {np.abs(theirs - tokens).max():.1g}')


options = dict(img_size=16, patch_size=4, embed_dim=64, depth=2, num_heads=2, class_token=False)
with torch.no_grad():
    in_timm = timm.create_model(
        'vit_tiny_patch16_224', **options, num_classes=0, global_pool='', checkpoint_path='vit.pth'
    )
    compare('timm', in_timm.eval()(batch).numpy())
    if 'huggingface' in targets:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        in_transformers = transformers.AutoModel.from_pretrained('vit_folder').eval()
        compare('HuggingFace', in_transformers(batch).last_hidden_state.numpy())
if 'onnx' in targets:
    import onnxruntime

    session = onnxruntime.InferenceSession('vit.onnx')
    compare('onnxruntime', session.run(None, {'image': batch.numpy()})[0])

# %% [markdown]
# ### torchvision
#
# torchvision has no ViT of this size. It has a ResNet-18: ours is trained for twenty steps, in a
# loop of its own, so that there is something to take. That is enough for an export, not for good
# features.

# %%
torch.manual_seed(0)
digits, rng = Digits('train'), np.random.default_rng(0)
resnet = A2MIM(
    TimmBackbone('resnet18', mask_after='layer2'),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
    data_preprocessor=dict(type='ImagePreprocessor', mean=[77.8] * 3, std=[95.9] * 3),
)
optimizer = torch.optim.AdamW(resnet.parameters(), lr=1e-3)
for step in range(20):
    chosen = [digits.load(int(index)) for index in rng.integers(len(digits), size=32)]
    larger = torch.nn.functional.interpolate(torch.stack(chosen), size=32)
    masks = [random_patch_mask(block_grid(32, 8), 0.6, rng) for _ in chosen]
    data = dict(image=larger, mask=torch.from_numpy(np.stack(masks)))
    losses = resnet(**resnet.data_preprocessor(data, training=True), mode='loss')
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
    if step in (0, 19):
        print(f'step {step + 1}: L1 {float(losses["loss_spatial"].detach()):.2f}')
torch.save(resnet.backbone.model.state_dict(), 'resnet18.pth')

# %% [markdown]
# The first command takes the ViT, and says which targets fit. The second needs the name of the
# model: a file of weights alone does not tell it.

# %%
run(
    'a2mim export run/latest.pth vit_torchvision.pth --to torchvision',
    'a2mim export resnet18.pth resnet18_torchvision.pth --to torchvision --model resnet18',
    show='error|difference|wrote|load_state',
    codes=[2, 0],
)
theirs = torchvision.models.resnet18()
print(theirs.load_state_dict(torch.load('resnet18_torchvision.pth'), strict=False))
theirs.fc = torch.nn.Identity()
batch = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    difference = theirs.eval()(batch) - resnet.eval().backbone(batch).mean((2, 3))
print(f'torchvision: largest difference {difference.abs().max():.1g}')

# %% [markdown]
# Its classifier, `fc`, is the one that keeps its random weights: the backbone had none.
#
# ## Next
#
# - [Use a model](https://github.com/a2mim/a2mim/blob/main/docs/using_models.md): reconstructions,
#   classes, shards and lists of files for `embed`.
# - [Export](https://github.com/a2mim/a2mim/blob/main/docs/export.md): MMDetection, MMSegmentation,
#   Detectron2, upload to the HuggingFace hub.
# - `a2mim finetune --data CLASS_FOLDERS --from RUN` trains a classifier, of all weights.
