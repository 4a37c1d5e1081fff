import hashlib
import re
import socket
from threading import Thread

import pytest

from a2mim.weights.released import fetch, verify
from file_server import serve

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serve(CONTENT) as running:
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / 'new' / 'weights.pth'


def names(target):
    return sorted(path.name for path in target.parent.iterdir() if path.suffix != '.lock')


def test_a_file_arrives_whole_and_leaves_nothing_else(server, target):
    fetch(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert names(target) == ['weights.pth']


def test_a_file_that_is_there_is_not_fetched_again(server, target):
    fetch(server.url, target)
    fetch(server.url, target)
    assert len(server.requests) == 1


def test_a_truncated_body_leaves_no_file_and_the_next_attempt_goes_on(server, target):
    server.stop_after = 4000
    with pytest.raises(ConnectionError, match=r'4000 of 10240 bytes|4000 bytes read, 6240 more'):
        fetch(server.url, target, sha256=SHA256)
    assert not target.exists()
    server.stop_after = None
    fetch(server.url, target, sha256=SHA256)
    assert server.requests == [None, 'bytes=4000-']
    assert target.read_bytes() == CONTENT
    assert names(target) == ['weights.pth']


def test_a_server_without_ranges_sends_all_again(server, target):
    server.stop_after = 4000
    with pytest.raises(ConnectionError):
        fetch(server.url, target)
    server.stop_after, server.ranges = None, False
    fetch(server.url, target)
    assert server.requests[-1] == 'bytes=4000-'
    assert target.read_bytes() == CONTENT


def test_parts_of_two_versions_are_not_put_together(server, target):
    server.stop_after = 4000
    with pytest.raises(ConnectionError):
        fetch(server.url, target)
    server.stop_after, server.etag, server.content = None, '"second"', CONTENT[::-1]
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize('surplus', [b'', b'more'], ids=['complete', 'too long'])
def test_a_partial_file_of_which_nothing_is_left_to_fetch_is_settled(server, target, surplus):
    target.parent.mkdir()
    (target.parent / 'weights.pth.partial').write_bytes(CONTENT + surplus)
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == (2 if surplus else 1)


def test_a_wrong_file_is_refused_and_deleted(server, target):
    with pytest.raises(ValueError, match=f'has SHA-256 {SHA256}, expected {"0" * 64}'):
        fetch(server.url, target, sha256='0' * 64)
    assert names(target) == []


def test_what_the_server_does_not_have_is_named_with_the_manual_steps(server, target):
    server.status = 404
    with pytest.raises(FileNotFoundError, match=r'404 Not Found') as error:
        fetch(server.url, target, sha256=SHA256)
    for part in (server.url, f'save it as {target}', 'A2MIM_HOME', f'must print {SHA256}'):
        assert part in str(error.value)


def test_a_failing_server_is_no_missing_file(server, target):
    server.status = 503
    with pytest.raises(ConnectionError, match='503'):
        fetch(server.url, target)


def test_a_refused_connection_comes_with_the_manual_steps(target):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        url = f'http://127.0.0.1:{taken.getsockname()[1]}/weights.pth'
    with pytest.raises(ConnectionError, match=r'refused.*Get it by hand: \(1\) download'):
        fetch(url, target)


def test_two_that_want_the_same_file_fetch_it_once(server, target):
    threads = [Thread(target=fetch, args=(server.url, target)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert target.read_bytes() == CONTENT


def test_progress_is_shown_on_stderr(server, target, capsys):
    fetch(server.url, target)
    shown = capsys.readouterr()
    assert re.search(r'weights.pth.*10.2/10.2 kB', shown.err)
    assert shown.out == ''


def test_an_unverified_file_says_its_hash_and_a_later_change_is_noticed(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmengine.logging.print_log', lambda text, logger: said.append(text))
    path = tmp_path / 'weights.pth'
    path.write_bytes(CONTENT)
    verify(path)
    verify(path)
    assert len(said) == 1
    assert 'could not be verified' in said[0]
    assert SHA256 in said[0]
    assert (tmp_path / 'weights.pth.sha256').read_text() == f'{SHA256}  weights.pth\n'
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r'expected .* the hash noted in .*weights.pth.sha256'):
        verify(path)


def test_a_published_hash_is_needed_and_enough(tmp_path):
    path = tmp_path / 'weights.pth'
    path.write_bytes(CONTENT)
    verify(path, SHA256)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match='expected 000'):
        verify(path, '0' * 64)
