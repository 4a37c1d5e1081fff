"""timm's own formats: a flat file, and a folder in the layout of the Hugging Face hub.

``timm.create_model('local-dir:FOLDER')`` opens the folder, and so does ``transformers``, whose
wrapper builds the timm model that ``config.json`` names. Neither asks the network for anything.
"""

import json
from pathlib import Path

import timm
import torch
from timm.models import load_checkpoint, save_for_hf
from torch import Tensor

from a2mim.weights.export.target import Check, Source, Target, UnreadError, other_library
from a2mim.weights.files import save_file
from a2mim.weights.fit import compare
from a2mim.weights.safe_load import load_file

WEIGHTS, CONFIG = 'model.safetensors', 'config.json'


class TimmFile(Target):
    """Backbone, and classifier where there is one, as timm's own ``state_dict()``."""

    suffixes = ('.safetensors', '.pth')
    carried = None

    def write(self, source: Source, path: Path) -> None:
        """Write tensors by name and nothing else."""
        save_file(source.model.state_dict(), path)

    @torch.no_grad()
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Let timm build the model and load the file, strictly."""
        model = source.create().eval()
        load_checkpoint(model, str(path))
        report = compare(model, load_file(path))
        return Check(f'timm {timm.__version__}', report, source.model(image), model(image))

    def usage(self, source: Source, path: Path) -> tuple[str, str]:
        """Build and load in one call."""
        return 'import timm', f'model = {source.call(checkpoint_path=str(path))}'


class HuggingFaceFolder(Target):
    """``config.json`` and ``model.safetensors``, written by timm itself."""

    suffixes = ('',)
    carried = None

    def write(self, source: Source, path: Path) -> None:
        """Let timm write the folder; ``transformers`` passes the number of classes by itself."""
        names = {'label_names': source.classes} if source.classes and source.num_classes else {}
        save_for_hf(source.model, str(path), names, source.options, safe_serialization=True)
        config = json.loads((path / CONFIG).read_text(encoding='utf-8'))
        config['model_args'].pop('num_classes', None)
        (path / CONFIG).write_text(json.dumps(config, indent=2), encoding='utf-8')
        # safetensors lets nobody but the owner read the weights.
        (path / WEIGHTS).chmod((path / CONFIG).stat().st_mode)

    @torch.no_grad()
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Open it with timm and, where it is installed, with ``transformers`` too."""
        model = timm.create_model(f'local-dir:{path}', pretrained=True).eval()
        report = compare(model, load_file(path / WEIGHTS))
        ours, theirs = source.model(image), model(image)
        library = f'timm {timm.__version__}'
        try:
            with other_library('transformers'):
                import transformers

                transformers.utils.logging.disable_progress_bar()
                wrapper = transformers.TimmWrapperModel.from_pretrained(path).eval()
                hidden = wrapper(image).last_hidden_state
        except UnreadError as error:
            return Check(f'{library} (not by transformers: {error})', report, ours, theirs)
        ours = torch.cat([ours.flatten(), source.model.forward_features(image).flatten()])
        theirs = torch.cat([theirs.flatten(), hidden.flatten()])
        return Check(f'{library} and transformers {transformers.__version__}', report, ours, theirs)

    def usage(self, source: Source, path: Path) -> tuple[str, str]:
        """One line for each library."""
        return (
            f"model = timm.create_model('local-dir:{path}', pretrained=True)",
            f"model = transformers.AutoModel.from_pretrained('{path}')",
        )
