"""Embedding of labelled images' features by t-SNE or UMAP, one panel per network.

    python tools/visualizations/vis_embedding.py NETWORK [NETWORK ...] [--method tsne]

With --images DIR the folders in DIR are the classes. Titles state the k-NN accuracy in all
dimensions.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from a2mim.analysis import add_analysis_options, open_images, open_networks, open_results
from a2mim.analysis.embedding import (
    METHODS,
    check_embedding,
    draw_embeddings,
    embed,
    image_features,
    neighbour_agreement,
)
from a2mim.engine.command_line import one_line_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_analysis_options(parser, out='work_dirs/analysis/embedding', num_images=56)
    parser.add_argument('--method', choices=METHODS, default='tsne')
    parser.add_argument('--perplexity', type=float, default=10.0, help='of t-SNE')
    parser.add_argument('--neighbours', type=int, default=10, help='of UMAP')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    width = args.perplexity if args.method == 'tsne' else args.neighbours
    with one_line_errors():
        parts = Path(args.out) / 'parts'
        check_embedding(args.method, args.num_images, width)
        networks, images = open_networks(args), open_images(args, labelled=True)
        labels, titles, places, rows = images.labels.numpy(), [], [], []
        for network in networks:
            features = image_features(network, images, args.batch_size, parts)
            agreement = neighbour_agreement(features, labels)
            place = embed(features, args.method, neighbours=width, seed=args.seed)
            titles.append(f'{network.label}\n5-NN {agreement:.1f} %')
            places.append(place)
            rows += [
                dict(subject=network.label, image=name, label=int(label), x=x, y=y)
                for name, label, (x, y) in zip(images.names, labels, place.tolist(), strict=True)
            ]
            print(f'{network.label}: {agreement:.1f} % accuracy of 5 nearest neighbours')
        options = dict(method=args.method, neighbours=width)
        results = open_results(args, 'Features in the plane', **options)
        caption = (
            f'{args.method} of pooled features, {len(images)} images, a colour per class; 5-NN: '
            'accuracy in all dimensions, every second image tests, the others vote'
        )
        figure = draw_embeddings(titles, places, labels, images.classes)
        results.add_figure(figure, 'embedding', caption)
        results.add_table(rows, 'embedding', 'Coordinates of the images, without unit')
        results.finish()
        print(f'figure and embedding.csv: {args.out}')


if __name__ == '__main__':
    main()
