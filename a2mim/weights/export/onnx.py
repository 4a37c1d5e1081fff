"""An ONNX graph with a free batch size, for onnxruntime and whatever else reads ONNX."""

from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from a2mim.weights.export.target import Check, Source, Target, UnreadError, other_library

INPUT, OUTPUT = 'image', 'features'


class OnnxGraph(Target):
    """The whole model in one file: (B, C, H, W) normalised pixels in, features or logits out."""

    suffixes = ('.onnx',)
    carried = None

    def problem(self, source: Source) -> str | None:
        """Whether the packages that write a graph are there."""
        try:
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            return f"{error.name} is not installed (pip install 'a2mim[export]')"
        return None

    def write(self, source: Source, path: Path) -> None:
        """Trace with a batch of two: torch takes a batch of one for a constant.

        Raises:
            ValueError: If torch cannot turn the model into a graph.
        """
        # timm leaves out what graphs do not take, fused attention for one.
        model = source.create(exportable=True).eval()
        model.load_state_dict(source.model.state_dict())
        example = torch.zeros(2, *source.input_shape)
        try:
            torch.onnx.export(
                model,
                (example,),
                path,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: Dim('batch')},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f'torch.onnx cannot export {source.name}: {reason}') from error

    @torch.no_grad()
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Run it on batches of one and of three, none of which it was traced with."""
        try:
            with other_library('onnxruntime'):
                import onnxruntime
        except UnreadError as error:
            return Check('onnxruntime', None, problem=str(error))
        session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        batches = image, torch.cat([image, image.flip(3), -image])
        theirs = [session.run(None, {INPUT: batch.numpy()})[0] for batch in batches]
        return Check(
            f'onnxruntime {onnxruntime.__version__}',
            None,
            torch.cat([source.model(batch) for batch in batches]),
            torch.cat([torch.from_numpy(output) for output in theirs]),
        )

    def usage(self, source: Source, path: Path) -> tuple[str, str]:
        """Session and call."""
        shape = ', '.join(map(str, source.input_shape))
        return (
            f"session = onnxruntime.InferenceSession('{path}')",
            f"(features,) = session.run(['{OUTPUT}'], {{'{INPUT}': pixels}})  # (B, {shape})",
        )
