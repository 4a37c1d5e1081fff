"""Class activation maps of one image, by the package grad-cam: pip install -e '.[analysis]'.

    python tools/visualizations/vis_cam.py IMAGE CONFIG CHECKPOINT [options]
    python tools/visualizations/vis_cam.py IMAGE --subjects NETWORK [NETWORK ...] [options]

The image is resized and cropped as in validation. Patch tokens are detected.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from a2mim.analysis import Network, cam, read_network
from a2mim.analysis.networks import around, chosen_device
from a2mim.analysis.receptive_field import find_stage
from a2mim.analysis.results import write_figure
from a2mim.datasets.decoding import read_image
from a2mim.engine.command_line import checkpoint_file, existing_file, one_line_errors
from a2mim.engine.config_options import ConfigOptions
from a2mim.inference import fit_image
from a2mim.options import add_reading_options
from a2mim.weights.config_files import read_config
from a2mim.weights.load_model import load_model_file
from a2mim.weights.safe_load import reading


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('image')
    add('config', nargs='?')
    add('checkpoint', nargs='?', help='of a classifier; with eigencam, also of a backbone')
    add('--subjects', nargs='+', default=[], metavar='[LABEL=][random:]SOURCE')
    add('--target-layers', nargs='+', default=[], metavar='MODULE', help='default: a late norm')
    add('--preview-model', action='store_true', help='print the modules and exit')
    add('--method', choices=tuple(cam.METHODS), default='gradcam')
    add('--target-category', type=int, nargs='+', default=[], help='default: the predicted one')
    add('--eigen-smooth', action='store_true', help='first principal component, not the sum')
    add('--aug-smooth', action='store_true', help='mean over six versions of the image')
    add('--vit-like', action='store_true', help='ignored: patch tokens are detected')
    add('--num-extra-tokens', type=int, metavar='N', help='before the patches; default: from timm')
    add('--save-path', default='work_dirs/analysis/cam', help='.png or .pdf, or a folder')
    add('--seed', type=int, default=0, help='of random weights')
    add('--device', default='cpu')
    add('--cfg-options', nargs='+', action=ConfigOptions, default={})
    add_reading_options(parser)
    return parser.parse_args(argv)


def open_networks(args: argparse.Namespace) -> list[Network]:
    """CONFIG with CHECKPOINT, or --subjects."""
    if bool(args.subjects) == bool(args.checkpoint):
        raise ValueError('give IMAGE CONFIG CHECKPOINT, or IMAGE --subjects NETWORK …')
    args.device = chosen_device(args.device)
    with reading(args):
        if args.subjects:
            return [read_network(text, args.device, args.seed) for text in args.subjects]
        cfg = read_config(existing_file(args.config, 'config'))
        cfg.merge_from_dict(args.cfg_options)
        path = Path(checkpoint_file(args.checkpoint, 'checkpoint'))
        whole = load_model_file(path, cfg.to_dict(), None, pretrained=True).to(args.device)
    return [around(whole, path.stem, str(path))]


def write(args: argparse.Namespace, network: Network, titles: list, maps: list) -> Path:
    """Write the figure over the picture of ``network``, and into a folder also the maps."""
    picture = fit_image(read_image(args.image, network.channels), network.image_size)
    caption = f'{args.method} of {args.image}, each map scaled to 0…1'
    settings = dict(image=args.image, method=args.method, layers=args.target_layers)
    figure = cam.draw_activation_maps(picture.permute(1, 2, 0).numpy(), titles, maps)
    arrays = {f'map{index}': one for index, one in enumerate(maps)}
    return write_figure(figure, args.save_path, 'cam', caption, settings=settings, arrays=arrays)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        image = existing_file(args.image, 'image')
        networks = open_networks(args)
        if args.preview_model:
            print('\n'.join(f'{one.label}:\n{one.model}' for one in networks))
            return
        cam.grad_cam_package()
        for network in networks:
            cam.check_categories(network, args.method, args.target_category)
            for layer in args.target_layers:
                find_stage(network.model, layer)
        titles, maps = [], []
        for network in networks:
            picture = fit_image(read_image(image, network.channels), network.image_size)
            found, categories = cam.class_activation_map(
                network,
                picture,
                args.method,
                layers=args.target_layers,
                categories=args.target_category,
                num_extra=args.num_extra_tokens,
                eigen_smooth=args.eigen_smooth,
                aug_smooth=args.aug_smooth,
            )
            maps += list(found)
            names = [f'class {category}' for category in categories] or [args.method]
            titles += [f'{network.label}\n{name}' for name in names]
        print('; '.join(title.replace('\n', ': ') for title in titles))
        print(f'figure: {write(args, networks[0], titles, maps)}')


if __name__ == '__main__':
    main()
