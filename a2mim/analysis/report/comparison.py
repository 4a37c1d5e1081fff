"""What all sections of a report are measured on, and how much of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from a2mim.analysis.images import PHOTOS, AnalysisImages
from a2mim.analysis.runs import RunLog
from a2mim.analysis.subject import Subject


@dataclass(frozen=True)
class Effort:
    """How much is measured: numbers of images, and of what is drawn at random.

    Attributes:
        images: For spectra and robustness.
        pictures: Reconstructions that are shown.
        interaction_images, pairs, contexts: Of interactions.
        labels_per_class: Labelled photographs that fit the probes.
    """

    images: int = 56
    pictures: int = 6
    interaction_images: int = 8
    pairs: int = 10
    contexts: int = 20
    labels_per_class: int = 48


THOROUGH = Effort()
QUICK = Effort(16, 4, 4, 5, 5, 12)


@dataclass(frozen=True)
class Comparison:
    """Networks, logs and images.

    Attributes:
        subjects: Networks, with different labels.
        logs: Of those that have some, with the labels of their networks.
        images: ``'photos'`` or a folder.
        labelled: The folders in ``images`` are classes.
        probe_images: ``'photos'``, or a folder with class folders in ``train`` and ``val``.
        effort: How much.
        num_images: Instead of the numbers of images in ``effort``.
        seed: Of every random choice.
        batch_size: Images in a forward pass.
    """

    subjects: Sequence[Subject]
    logs: Sequence[RunLog] = ()
    images: str = PHOTOS
    labelled: bool = False
    probe_images: str = PHOTOS
    effort: Effort = THOROUGH
    num_images: int | None = None
    seed: int = 0
    batch_size: int = 64

    def open_images(self, number: int) -> AnalysisImages:
        """``number`` images, the same ones for every network."""
        return AnalysisImages(self.images, number, self.seed, labelled=self.labelled)

    def number(self, wanted: int) -> int:
        """``wanted``, but not more than ``num_images``."""
        return wanted if self.num_images is None else min(wanted, self.num_images)

    @property
    def spectrum_images(self) -> AnalysisImages:
        """For spectra and robustness."""
        return self.open_images(self.num_images or self.effort.images)

    @cached_property
    def networks(self) -> Mapping[str, str]:
        """Source and fingerprint of the weights, by label."""
        return {
            subject.label: f'{subject.source}, weights {subject.fingerprint()}'
            for subject in self.subjects
        }

    @property
    def image_settings(self) -> Mapping[str, object]:
        """What every measurement on images depends on."""
        return dict(
            networks=dict(self.networks),
            images=self.images,
            labelled=self.labelled,
            seed=self.seed,
            batch_size=self.batch_size,
        )
