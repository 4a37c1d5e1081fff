import numpy as np
import pytest
from PIL import Image

from a2mim.engine.history import MAX_POINTS, curve_of, curve_points
from a2mim.engine.pictures import LossCurveHook, _smoothed, draw_curves


@pytest.fixture()
def drawn(monkeypatch) -> list[dict]:
    """What would have been drawn, picture by picture."""
    pictures = []
    monkeypatch.setattr(
        'a2mim.engine.pictures.draw_curves',
        lambda histories, path: pictures.append(histories),
    )
    return pictures


def test_it_is_there_at_the_end(work_dir):
    assert Image.open(work_dir / 'loss.png').size[0] == 800


def test_every_loss_has_axes_of_its_own_and_all_its_iterations(trained, drawn):
    LossCurveHook().after_train(trained)
    assert {name: curve_points(curve)[0].tolist() for name, curve in drawn[0].items()} == {
        name: list(range(1, 13)) for name in ('loss', 'loss_spatial', 'loss_spectral')
    }


def test_short_epochs_are_not_slowed_down_by_drawing(trained, drawn):
    hook = LossCurveHook()
    for _ in range(5):
        hook.after_train_epoch(trained)
    assert len(drawn) == 1


@pytest.mark.parametrize('length', [1, 2, 30, 3 * MAX_POINTS + 1])
def test_a_curve_of_any_length_can_be_drawn(tmp_path, length):
    draw_curves({'loss': curve_of(np.linspace(1, 0, length))}, tmp_path / 'loss.png')
    assert (tmp_path / 'loss.png').stat().st_size > 1000


def test_long_curves_are_thinned_to_means():
    iterations, values = curve_points(curve_of(np.arange(3 * MAX_POINTS + 1, dtype=float)))
    assert len(values) <= MAX_POINTS
    assert iterations[[0, -1]].tolist() == [4, 3 * MAX_POINTS + 1]
    assert values[[0, 1, -1]].tolist() == [1.5, 5.5, 3 * MAX_POINTS]


def test_smoothing_keeps_a_constant_to_its_ends():
    assert np.allclose(_smoothed(np.full(30, 2.0)), 2)
