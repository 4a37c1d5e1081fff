"""Which errors say that another process is missing."""

import pytest
from torch import distributed

from a2mim.engine.processes import is_connection_lost


@pytest.mark.parametrize(
    'message, lost',
    [
        ('[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection reset', True),
        ('Application timeout caused pair closure', True),
        ('Connection closed by peer [127.0.0.1]:41000', True),
        ('mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)', False),
    ],
)
def test_messages_of_gloo_are_known(message, lost, monkeypatch):
    monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
    assert is_connection_lost(RuntimeError(message)) == lost


def test_one_process_has_lost_nobody():
    assert not is_connection_lost(RuntimeError('Application timeout caused pair closure'))
