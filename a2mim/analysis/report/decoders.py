"""What networks with a decoder draw, and its frequencies."""

from a2mim.analysis.reconstruction_figure import reconstruction_grid
from a2mim.analysis.reconstructions import MaskSetting
from a2mim.analysis.report.comparison import Comparison
from a2mim.analysis.results import Results
from a2mim.analysis.spectra import draw_reconstructions, reconstruction_spectra
from a2mim.analysis.subject import Subject


def add_reconstructions(compared: Comparison, results: Results) -> None:
    """Pictures by all networks with a decoder for images of the size of the first one.

    Raises:
        ValueError: If there is none.
    """
    subjects = _with_decoder(compared)
    spec = subjects[0].whole.input_spec
    block = spec.block_size if isinstance(spec.block_size, int) else spec.block_size[0]
    setting = MaskSetting(spec.ratio, block, compared.seed)
    images = compared.open_images(compared.number(compared.effort.pictures))
    figure, rows = reconstruction_grid(subjects, images, [setting], batch_size=compared.batch_size)
    caption = (
        f'The same images and mask ({setting}) for all; visible pixels are pasted. L1: mean '
        'absolute error over hidden pixels, in standard deviations of the pixels.'
    )
    results.add_figure(figure, 'reconstructions', caption)
    results.add_table(rows, 'errors', 'Error of each image, and of its mean colour.')


def add_reconstruction_spectra(compared: Comparison, results: Results) -> None:
    """Frequencies of hidden blocks, against those of the image.

    Raises:
        ValueError: If no network has a decoder.
    """
    found = reconstruction_spectra(
        _with_decoder(compared),
        compared.spectrum_images,
        folder=results.folder / 'parts',
        seed=compared.seed,
        batch_size=compared.batch_size,
    )
    caption = (
        'Radially averaged log amplitude (natural log) in hidden blocks, and the ratio to the '
        'image, by frequency in π per pixel.'
    )
    results.add_figure(draw_reconstructions(found), 'reconstructions', caption)


def _with_decoder(compared: Comparison) -> list[Subject]:
    subjects = [subject for subject in compared.subjects if subject.has_decoder]
    if not subjects:
        raise ValueError('no network has a decoder; give a checkpoint of pre-training')
    return [one for one in subjects if one.image_size == subjects[0].image_size]
