"""Features and reconstructions of images by a trained model, without a Runner.

Axes: B batch, C channels, (H, W) pixels, (h, w) features or mask blocks.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from PIL.Image import Image as Picture
from torch import Tensor, nn
from torchvision.transforms.v2.functional import rgb_to_grayscale

from a2mim.datasets.archives import open_source
from a2mim.datasets.decoding import picture_values, read_image
from a2mim.datasets.layout import PLAIN, TYPES, fill_missing, to_grey
from a2mim.datasets.transforms import CenterCrop, resize
from a2mim.interfaces import Algorithm
from a2mim.masking import block_grid, random_patch_mask, upsample_mask
from a2mim.models.classifier import ImageClassifier
from a2mim.scale import Scale, type_name
from a2mim.weights.load_model import load_model

Image: TypeAlias = str | Path | Picture | np.ndarray | Tensor
Images: TypeAlias = Image | Iterable[Image]
CHUNK = 64  # images in one pass


def as_batch(model: nn.Module, image: Images) -> Tensor:
    """Resize, crop the center and normalize, as the model's own preprocessor does.

    The short side is brought to the size that the model was trained on.

    Args:
        model: From ``load_model``.
        image: Path of an image file; Pillow image; array (H, W), (H, W, C) or (B, H, W, C); tensor
            (H, W), (C, H, W) or (B, C, H, W); a list or generator of these; or a folder of images
            or shards, all of them in the order of their names. Of the type of the training images,
            unless ``scale`` of the model is 'dtype': then of any integer type. Grey becomes RGB,
            and RGB grey, as the model needs it; NaN becomes the mean of its channel.

    Returns:
        (B, C, *image_size), float32, on the device of the model.

    Raises:
        ValueError: If it is no such image, or has another number of channels.
        TypeError: If it is something else, or its values are of a type that cannot be scaled.
    """
    images = list(_fitted(model, image))
    if not images:
        raise ValueError(f'there is no image in {image!r}')
    return normalized(model, images)


def normalized(model: nn.Module, images: Sequence[Tensor]) -> Tensor:
    """(B, C, H, W), float32, on the device of the model, of images of one size and of any types."""
    preprocessor = cast(Algorithm, model).data_preprocessor
    if len({image.dtype for image in images}) > 1:  # each has a range of its own
        return torch.cat([normalized(model, [image]) for image in images])
    _check_type(type_name(images[0]), preprocessor.scale)
    batch = torch.stack([*images]).to(preprocessor.mean.device)
    return preprocessor(dict(image=batch))['image']


def input_of(model: nn.Module) -> tuple[int, tuple[int, int], dict]:
    """Channels and size (H, W) of the images of a model, and which part of a file they are.

    Raises:
        TypeError: If the model does not say.
    """
    preprocessor, spec = (getattr(model, n, None) for n in ('data_preprocessor', 'input_spec'))
    if preprocessor is None or spec is None:
        raise TypeError(
            f'{type(model).__name__} does not say what images it wants; get it from '
            'a2mim.load_model'
        )
    return len(preprocessor.mean), spec.image_size, spec.layout


def _fitted(model: nn.Module, image: Images) -> Iterator[Tensor]:
    """Each of the images, (C, *image_size), in its own type."""
    channels, size, layout = input_of(model)
    if isinstance(image, str | Path) and Path(image).is_dir():
        source = open_source(str(image), channels=channels, **layout)
        yield from (fit_image(source.load(index), size) for index in range(len(source)))
    elif isinstance(image, str | Path):
        if not Path(image).is_file():
            raise FileNotFoundError(f'there is no image {image}')
        yield fit_image(read_image(str(image), channels, **layout), size)
    elif isinstance(image, Iterable) and not isinstance(image, bytes | np.ndarray | Tensor):
        for one in image:
            yield from _fitted(model, one)
    else:
        scale = cast(Algorithm, model).data_preprocessor.scale
        if isinstance(image, Picture):
            image = picture_values(image, channels, PLAIN).values
        pixels = _with_channels(_pixels(cast('np.ndarray | Tensor', image), scale), channels)
        yield from (fit_image(one, size) for one in pixels)


def _check_type(name: str, scale: Scale) -> None:
    if scale == 'dtype' and name.startswith('float'):
        raise TypeError(
            f'image holds {name}; give pixel values in [0, 255] as uint8 '
            '(values from 0 to 1: (image * 255).round() first), or a model that was trained with '
            'scale=(low, high)'
        )


def _pixels(image: np.ndarray | Tensor, scale: Scale) -> Tensor:
    """(B, C, H, W), of the type of the image."""
    if not isinstance(image, np.ndarray | Tensor):
        raise TypeError(
            f'image is a {type(image).__name__}; give a path, a Pillow image, an array (H, W, C) '
            'or a tensor (C, H, W), several of these, or a folder'
        )
    name = type_name(image) if isinstance(image, Tensor) else image.dtype.name
    _check_type(name, scale)
    if name not in (*TYPES, 'float64'):
        raise TypeError(
            f'image holds {image.dtype}; give pixel values in [0, 255] as uint8, or in the type of '
            f'the training images, one of {", ".join(TYPES)}'
        )
    if image.ndim not in (2, 3, 4) or 0 in image.shape[-3:]:
        what, axes = (
            ('array', 'H, W, C') if isinstance(image, np.ndarray) else ('tensor', 'C, H, W')
        )
        raise ValueError(
            f'{what} of shape {tuple(image.shape)} is no image (H, W) or ({axes}), or several '
            f'(B, {axes})'
        )
    if isinstance(image, np.ndarray):
        rows = image[..., None] if image.ndim == 2 else image
        # A copy: arrays of Pillow images are read-only, which torch warns of.
        image = torch.from_numpy(np.array(rows, rows.dtype.newbyteorder('='))).movedim(-1, -3)
    batch = image[(None,) * (4 - image.ndim)]
    if not batch.is_floating_point():
        return batch
    batch = batch.float() if batch.dtype == torch.float64 else batch
    filled = [fill_missing(one.cpu().numpy(), None)[0] for one in batch]
    return torch.from_numpy(np.stack(filled)).to(batch.device)


def _with_channels(pixels: Tensor, channels: int) -> Tensor:
    found = pixels.shape[1]
    if found == channels:
        return pixels
    if (found, channels) == (1, 3):
        return pixels.expand(-1, 3, -1, -1)
    if (found, channels) == (3, 1):
        if pixels.dtype == torch.uint8:
            return rgb_to_grayscale(pixels)
        grey = [torch.from_numpy(to_grey(one.cpu().numpy())) for one in pixels]
        return torch.stack(grey).to(pixels.device)
    raise ValueError(
        f'the image has {found} channels, the model was trained on {channels}; an array is read as '
        '(H, W, C), a tensor as (C, H, W)'
    )


def fit_image(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest part from the center, (C, H, W), that has the shape of ``size``."""
    height, width = pixels.shape[-2:]
    scale = max(size[0] / height, size[1] / width)
    target = max(size[0], round(height * scale)), max(size[1], round(width * scale))
    return CenterCrop(size)(resize(pixels, target, 'bicubic'), rng=np.random.default_rng())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the block ``model`` is in evaluation mode and computes no gradients."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def features(model: nn.Module, image: Images, *, pooled: bool = False) -> Tensor:
    """Features of the backbone of ``model`` in evaluation mode, nothing masked.

    Args:
        model: From ``load_model``.
        image: See ``as_batch``. For many images ``a2mim.embed`` reads in parallel and resumes.
        pooled: One vector per image, the mean over all positions. A classifier pools as its own
            head does.

    Returns:
        (B, C, h, w), or (B, C) if ``pooled``.

    Raises:
        ValueError, TypeError, FileNotFoundError: If the image is none that the model can take.
    """
    images, found = _fitted(model, image), []
    with evaluating(model):
        while chunk := list(islice(images, CHUNK)):
            found.append(features_of(model, normalized(model, chunk), pooled=pooled))
    if not found:
        raise ValueError(f'there is no image in {image!r}')
    return torch.cat(found)


def features_of(model: nn.Module, batch: Tensor, *, pooled: bool) -> Tensor:
    """``features`` of normalized images (B, C, H, W)."""
    if not isinstance(model, ImageClassifier):
        found = model(batch)
        return found.mean(dim=(2, 3)) if pooled else found
    if pooled:
        return model(batch, mode='tensor')
    return cast(Algorithm, model).backbone.model.forward_intermediates(
        batch, indices=1, norm=True, output_fmt='NCHW', intermediates_only=True
    )[-1]


def init_model(
    config: str | Path, checkpoint: str | Path | None = None, device: str | torch.device = 'cpu'
) -> nn.Module:
    """``load_model`` by the name that OpenMMLab has for it.

    Args:
        config: See ``config`` of ``load_model``; without a checkpoint also any name that it takes.
        checkpoint: File of weights; None: random ones.
        device: Of the model.
    """
    if checkpoint is None:
        return load_model(config, pretrained=False).to(device)
    return load_model(checkpoint, config=config).to(device)


def inference_model(model: nn.Module | str | Path, image: Image) -> dict[str, Any]:
    """What a classifier says of one image, see ``ImageClassificationInferencer``."""
    return ImageClassificationInferencer(model)(image)[0]


class ImageClassificationInferencer:
    """Classify images, with the results that OpenMMLab's inferencer of this name has.

    Args:
        model: ``ImageClassifier`` from ``load_model``, or what that takes.
        pretrained: With weights, or the file of weights of the config ``model``.
        device: To compute on; None: where the model is.

    Raises:
        TypeError: If the model is no classifier.
    """

    def __init__(
        self,
        model: nn.Module | str | Path,
        pretrained: bool | str | Path = True,
        device: str | torch.device | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            given = not isinstance(pretrained, bool)
            model = (
                init_model(model, pretrained) if given else load_model(model, pretrained=pretrained)
            )
        if not isinstance(model, ImageClassifier):
            raise TypeError(
                f'{type(model).__name__} has no classes; a2mim.features has its features, '
                'a2mim.reconstruct its reconstructions'
            )
        self.model = model.to(device)
        self.classes = getattr(model, 'dataset_meta', {}).get('classes') or ()

    def __call__(self, inputs: Images, batch_size: int = CHUNK) -> list[dict[str, Any]]:
        """``pred_label``, ``pred_score``, ``pred_class`` and ``pred_scores`` (K,) of each image.

        ``pred_class`` is the number of the class where the file does not tell its name.
        """
        images, found = _fitted(self.model, inputs), []
        with evaluating(self.model):
            while chunk := list(islice(images, batch_size)):
                outputs = self.model(normalized(self.model, chunk), mode='predict')
                found += [self._result(output['scores']) for output in outputs]
        return found

    def _result(self, scores: Tensor) -> dict[str, Any]:
        label = int(scores.argmax())
        name = self.classes[label] if label < len(self.classes) else str(label)
        result = dict(pred_label=label, pred_score=float(scores[label]), pred_class=name)
        return {**result, 'pred_scores': scores.numpy()}


def reconstruct(
    model: nn.Module,
    image: Images,
    *,
    ratio: float | None = None,
    block_size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Mask blocks of one image and let ``model`` reconstruct them.

    Args:
        model: An ``A2MIM``, ``SimMIM``, ``MAE``, ``SparK`` or ``FeatureMIM`` from ``load_model``.
        image: One image, see ``as_batch``.
        ratio: Share of masked blocks; None as in pre-training (0.6 in the paper).
        block_size: Pixels of a side of a block; None as in pre-training (32 in the paper).
        seed: Of the choice of blocks.

    Returns:
        uint8 arrays ready for ``PIL.Image.fromarray``, (H, W, C), or (H, W) for one channel:
        ``image``; ``visible``, what the method shows of it; ``reconstruction``, by the network
        everywhere; and ``mask``, (H, W), 255 where masked. A model that predicts features (HOG,
        local binary patterns, those of a teacher) has their pictures as ``reconstruction`` and
        ``target``.

    Raises:
        TypeError: If the model has no decoder.
        ValueError: If the blocks do not fit, or the image is none that the model can take.
    """
    if not hasattr(model, 'predict'):
        raise TypeError(
            f'{type(model).__name__} has no decoder and reconstructs nothing; load a whole '
            "pre-training checkpoint (a2mim.list_models() has names without '_ft_'), not a "
            'backbone alone or a classifier'
        )
    batch = as_batch(model, image)
    if len(batch) != 1:
        raise ValueError(f'reconstruct takes one image, not {len(batch)}')
    spec = cast(Algorithm, model).input_spec
    grid = block_grid(spec.image_size, spec.block_size if block_size is None else block_size)
    share = spec.ratio if ratio is None else ratio
    blocks = random_patch_mask(grid, share, np.random.default_rng(seed))
    if hasattr(model, 'check_mask'):
        cast(Any, model).check_mask(spec.image_size, grid, int(blocks.sum()))
    with evaluating(model):
        return _pictures(model, batch, torch.from_numpy(blocks)[None].to(batch))


def _pictures(model: nn.Module, batch: Tensor, mask: Tensor) -> dict[str, np.ndarray]:
    outputs = cast(Algorithm, model).predict(batch, mask)
    masked = upsample_mask(mask, (batch.shape[2], batch.shape[3]))[0].cpu().numpy()
    pixels = cast(Algorithm, model).data_preprocessor.denormalize
    pictures = {name: _picture(pixels(outputs[name])) for name in outputs if name != 'mask'}
    return {**pictures, 'mask': (255 * masked).astype(np.uint8)}


def _picture(pixels: Tensor) -> np.ndarray:
    picture = pixels[0].permute(1, 2, 0).cpu().numpy()
    return picture[..., 0] if picture.shape[2] == 1 else np.ascontiguousarray(picture)
