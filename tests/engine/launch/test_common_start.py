"""All processes start from what the first one found."""

from types import SimpleNamespace

from a2mim.engine import launch


def test_every_process_takes_the_file_of_the_first_one(monkeypatch):
    def broadcast(values: list) -> None:
        values[:] = [True, 'epoch_3.pth']

    monkeypatch.setattr(launch, 'broadcast_object_list', broadcast)
    late = SimpleNamespace(_resume=False, _load_from=None)
    launch.share_start(late)
    assert (late._resume, late._load_from) == (True, 'epoch_3.pth')


def test_one_process_keeps_its_own():
    alone = SimpleNamespace(_resume=True, _load_from='epoch_2.pth')
    launch.share_start(alone)
    assert (alone._resume, alone._load_from) == (True, 'epoch_2.pth')
