"""A bar over work, where a person looks."""

import pytest

from a2mim.analysis.results import progress


def test_all_items_come_and_nothing_is_drawn_where_nobody_looks(
    capsys: pytest.CaptureFixture,
) -> None:
    assert list(progress([3, 1, 2], 'a [b]')) == [3, 1, 2]
    assert capsys.readouterr() == ('', '')


def test_a_terminal_shows_the_label_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv('FORCE_COLOR', '1')  # rich takes it for a terminal
    assert list(progress([3, 1, 2], 'a [b]')) == [3, 1, 2]
    out, err = capsys.readouterr()
    assert out == '' and 'a [b]' in err and '100%' in err
