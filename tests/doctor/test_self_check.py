"""Two steps of training that show whether it works."""

import torch

from a2mim.doctor import self_check
from a2mim.doctor.finding import Verdict


def test_two_steps_lower_the_loss_and_draw_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    first, second = self_check.train_two_steps('cpu')
    assert second < first
    assert torch.equal(torch.get_rng_state(), before)
    assert self_check.train_two_steps('cpu') == [first, second]


def test_a_failure_is_a_finding(monkeypatch):
    def broken(_: str) -> None:
        raise RuntimeError('no kernel\nand a trace')

    monkeypatch.delenv('A2MIM_TRACEBACK', raising=False)
    monkeypatch.setattr(self_check, 'train_two_steps', broken)
    finding = next(self_check.check_training())
    assert finding.stops
    assert finding.found == 'RuntimeError: no kernel'


def test_a_loss_that_is_no_number_is_a_problem(monkeypatch):
    monkeypatch.setattr(self_check, 'train_two_steps', lambda _: [1.0, float('nan')])
    assert next(self_check.check_training()).verdict is Verdict.PROBLEM
