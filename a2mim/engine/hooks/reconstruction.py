"""Pictures of what the network reconstructs, while it learns.

Axes: N pictures, C channels, (H, W) pixels, (h, w) mask blocks.
"""

from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from a2mim.engine.hooks.picture_grid import picture_grid
from a2mim.masking import upsample_mask
from a2mim.registry import HOOKS


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draw the same images, under the same masks, after the first and every n-th epoch.

    Four rows: the image, what the network sees of it, its reconstruction, and the reconstruction
    pasted into the hidden blocks. ``reconstruction/epoch_N.png`` in the work dir, and the
    visualizer's back ends. The images are samples of the training set, with their crops of
    epoch 0; the model only returns tensors (``mode='predict'``) and draws nothing.

    Args:
        interval: Epochs from one picture to the next; the first and the last epoch have one.
        num_images: Images in the picture, spread evenly over the data set.

    Raises:
        ValueError: If ``interval`` or ``num_images`` is less than 1.
    """

    priority = 'LOW'

    def __init__(self, interval: int, num_images: int = 4) -> None:
        if interval < 1 or num_images < 1:
            raise ValueError(f'interval={interval} and num_images={num_images} must be at least 1')
        self.interval = interval
        self.num_images = num_images
        self._batch: dict | None = None

    def before_train(self, runner: Runner) -> None:
        """Load the images once; a sample is the same whenever it is loaded."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        # A sharded model computes in all processes or in none.
        if not is_main_process() and not isinstance(model, FSDPModule):
            return
        loader = runner.train_dataloader
        last = len(loader.dataset) - 1
        indices = np.linspace(0, last, min(self.num_images, last + 1), dtype=int)
        self._batch = loader.collate_fn([loader.dataset[int(index)] for index in indices])

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw in the first process, if this epoch is one of those with a picture."""
        epoch = runner.epoch + 1
        due = epoch in (1, runner.max_epochs) or epoch % self.interval == 0
        if not due or self._batch is None:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        rows = self._rows(model)
        if is_main_process():
            self._draw(runner, epoch, rows)

    def _draw(self, runner: Runner, epoch: int, rows: dict[str, np.ndarray]) -> None:
        """Write the picture to the work dir and the visualizer."""
        picture = picture_grid(rows)
        path = Path(runner.work_dir) / 'reconstruction' / f'epoch_{epoch}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
        runner.visualizer.add_image('reconstruction', picture, step=epoch)
        runner.logger.info(f'reconstruction of {len(self._batch["image"])} images: {path}')

    @torch.no_grad()
    def _rows(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Captions and uint8 images (N, C, H, W), in grey levels again."""
        training = model.training
        model.eval()
        outputs = model.val_step(self._batch)
        model.train(training)
        image, reconstruction = outputs['image'], outputs['reconstruction'].float()
        hidden = upsample_mask(outputs['mask'], tuple(image.shape[-2:])).unsqueeze(1)
        rows: dict[str, Tensor] = {
            'image': image,
            'what the network sees': outputs['visible'],
            'reconstruction': reconstruction,
            'reconstruction in hidden blocks': torch.lerp(image, reconstruction, hidden),
        }
        denormalise = model.data_preprocessor.denormalise
        return {caption: denormalise(row).cpu().numpy() for caption, row in rows.items()}
