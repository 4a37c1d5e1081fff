"""Two steps of training that show whether it works."""

import torch

from a2mim.doctor import checks
from a2mim.doctor.checks import Verdict


def test_two_steps_lower_the_loss_and_draw_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    first, second = checks.train_two_steps('cpu')
    assert second < first
    assert torch.equal(torch.get_rng_state(), before)
    assert checks.train_two_steps('cpu') == [first, second]


def test_a_failure_is_a_finding(monkeypatch):
    def broken(_: str) -> None:
        raise RuntimeError('no kernel\nand a trace')

    monkeypatch.delenv('A2MIM_TRACEBACK', raising=False)
    monkeypatch.setattr(checks, 'train_two_steps', broken)
    finding = next(checks.check_training())
    assert finding.stops
    assert finding.found == 'RuntimeError: no kernel'


def test_a_loss_that_is_no_number_is_a_problem(monkeypatch):
    monkeypatch.setattr(checks, 'train_two_steps', lambda _: [1.0, float('nan')])
    assert next(checks.check_training()).verdict is Verdict.PROBLEM
