"""Train or evaluate a detector with Detectron2 from the weights of a backbone.

    python det_mmdetection/detectron2/train_net.py CONFIG WEIGHTS OUT [KEY VALUE ...] [options]

WEIGHTS is a file of ``export_backbone.py --to detectron2``; with ``--eval-only``, of a detector.
Not run here: Detectron2 was not available (docs/detectron2.md).
"""

import argparse
from collections.abc import Sequence

from a2mim.engine.command_line import existing_file, one_line_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='YAML file in det_mmdetection/detectron2/configs')
    parser.add_argument('weights', help='MODEL.WEIGHTS')
    parser.add_argument('out', help='OUTPUT_DIR')
    parser.add_argument('options', nargs='*', metavar='KEY VALUE', help='other entries')
    parser.add_argument('--gpus', type=int, default=8, help='processes on this machine')
    parser.add_argument('--resume', action='store_true', help='continue the run in OUT')
    parser.add_argument('--eval-only', action='store_true', help='evaluate WEIGHTS')
    return parser.parse_intermixed_args(argv)


def run(args: argparse.Namespace) -> object:
    """Train or evaluate in one process of ``launch``."""
    import extra_norm_head  # noqa: F401  registers the head of C4
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import CfgNode, get_cfg
    from detectron2.data import MetadataCatalog
    from detectron2.engine import DefaultTrainer, default_setup
    from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, PascalVOCDetectionEvaluator

    class Trainer(DefaultTrainer):
        """Detectron2's trainer with the metrics of COCO or PASCAL VOC."""

        @classmethod
        def build_evaluator(
            cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
        ) -> DatasetEvaluator:
            """The evaluator that the data set names."""
            if MetadataCatalog.get(dataset_name).evaluator_type == 'pascal_voc':
                return PascalVOCDetectionEvaluator(dataset_name)
            return COCOEvaluator(dataset_name, output_dir=output_folder or cfg.OUTPUT_DIR)

    cfg = get_cfg()
    cfg.merge_from_file(args.config)
    cfg.merge_from_list(['MODEL.WEIGHTS', args.weights, 'OUTPUT_DIR', args.out, *args.options])
    cfg.freeze()
    default_setup(cfg, args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        DetectionCheckpointer(model).load(args.weights)
        return Trainer.test(cfg, model)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        try:
            from detectron2.engine import launch
        except ImportError as error:
            raise ImportError(
                f'{error}: install Detectron2, see https://detectron2.readthedocs.io'
            ) from error
        for path in (args.config, args.weights):
            existing_file(path, 'file')
    launch(run, args.gpus, dist_url='auto', args=(args,))


if __name__ == '__main__':
    main()
