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


def interrupted(server, target, etag: str | None = '"first"') -> None:
    """An attempt that ends after 4000 bytes."""
    server.etag, server.stop_after = etag or '', 4000
    with pytest.raises(ConnectionError):
        fetch(server.url, target)
    server.stop_after = None


PAGES = {
    'html': b'<!DOCTYPE html>\n<html><body>Log in</body></html>',
    'lower case': b'<html>' + b' ' * 600,
    'byte order mark': b'\xef\xbb\xbf\n<HTML>',
    'xml': b'<?xml version="1.0"?><Error/>',
    'json': b'{"message": "rate limit"}',
    'lfs': b'version https://git-lfs.github.com/spec/v1\noid sha256:00\n',
    'text': 'quota überschritten '.encode() * 40,
    'nothing': b'',
}


@pytest.mark.parametrize('known', [None, SHA256], ids=['no hash', 'hash'])
@pytest.mark.parametrize('page', PAGES.values(), ids=PAGES)
def test_a_page_in_place_of_the_file_does_not_stay(server, target, page, known):
    server.answers = [(200, {'Content-Length': str(len(page))}, page)]
    with pytest.raises(ValueError, match=r'is (a web page|text|empty), no file of weights'):
        fetch(server.url, target, known)
    assert names(target) == []
    fetch(server.url, target, known)
    assert target.read_bytes() == CONTENT


def test_a_page_that_is_there_already_is_named(tmp_path):
    (tmp_path / 'weights.pth').write_bytes(PAGES['html'])
    with pytest.raises(ValueError, match='is a web page, no file of weights'):
        verify(tmp_path / 'weights.pth')
    assert names(tmp_path / 'weights.pth') == ['weights.pth']


def part(first: int, last: int, total: object = len(CONTENT)) -> tuple[int, dict[str, str], bytes]:
    """A part of the content, as a server sends it."""
    body = CONTENT[first : last + 1]
    headers = {'Content-Range': f'bytes {first}-{last}/{total}', 'Content-Length': str(len(body))}
    return 206, headers, body


@pytest.mark.parametrize(
    'answer',
    [
        part(0, len(CONTENT) - 1),
        part(3999, len(CONTENT) - 1),
        part(4001, len(CONTENT) - 1),
        part(0, len(CONTENT) - 1, '*'),
        (206, {'Content-Length': '6240'}, CONTENT[4000:]),
        (206, {'Content-Type': 'multipart/byteranges; boundary=x', 'Content-Length': '3'}, b'--x'),
    ],
)
def test_another_part_than_the_one_asked_for_is_not_appended(server, target, answer):
    interrupted(server, target)
    server.answers = [answer]
    fetch(server.url, target)
    assert server.requests == [None, 'bytes=4000-', None]
    assert target.read_bytes() == CONTENT
    assert names(target) == ['weights.pth']


@pytest.mark.parametrize('first', [1, 7, 4000])
@pytest.mark.parametrize('planted', [b'', b'P' * 50, b'P' * 5000], ids=len)
def test_a_part_that_was_not_asked_for_is_refused(server, target, first, planted):
    target.parent.mkdir()
    if planted:
        target.with_name('weights.pth.partial').write_bytes(planted)
    server.answers = [part(first, len(CONTENT) - 1)]
    with pytest.raises(ConnectionError, match=f'a part from byte {first}, not the whole'):
        fetch(server.url, target)
    assert not target.exists()
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT


def test_a_part_that_ends_too_early_is_not_the_whole(server, target):
    interrupted(server, target)
    server.answers = [part(4000, 5999)]
    with pytest.raises(ConnectionError, match='6000 of 10240 bytes'):
        fetch(server.url, target)
    assert not target.exists()
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize('sizes', [(0, 100), (2000, 2100), (3999, 4000)])
def test_a_damaged_partial_file_is_not_completed_where_no_hash_is_known(server, target, sizes):
    interrupted(server, target)
    partial = target.with_name('weights.pth.partial')
    damaged = bytearray(partial.read_bytes())
    damaged[slice(*sizes)] = bytes(sizes[1] - sizes[0] - 1) + b'X'
    partial.write_bytes(damaged)
    fetch(server.url, target)
    assert server.requests == [None, None]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize('etag', [None, 'W/"weak"'])
def test_a_file_without_a_hash_and_a_version_starts_again(server, target, etag):
    interrupted(server, target, etag)
    fetch(server.url, target)
    assert server.requests == [None, None]
    assert target.read_bytes() == CONTENT


def test_a_partial_file_that_nobody_vouches_for_is_not_completed(server, target):
    target.parent.mkdir()
    target.with_name('weights.pth.partial').write_bytes(b'\0' * 4000)
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize('place', ['file:///etc/passwd', 'ftp://127.0.0.1:9/x', 'data:,x', 'x:y'])
def test_a_redirect_to_another_scheme_is_refused(server, target, place):
    server.answers = [(302, {'Location': place}, b'')]
    with pytest.raises(ConnectionError, match=r'302|redirects from http to') as error:
        fetch(server.url, target)
    assert '\n' not in str(error.value)
    assert names(target) == []


@pytest.mark.parametrize('url', ['file:///etc/passwd', 'ftp://127.0.0.1:9/x', '/etc/passwd'])
def test_another_scheme_is_refused(target, url):
    with pytest.raises(ValueError, match='is neither http nor https'):
        fetch(url, target)


def test_a_redirect_is_followed_and_a_circle_is_not(server, target):
    server.answers = [(302, {'Location': server.url}, b'')] * 12
    with pytest.raises(ConnectionError, match='infinite loop') as error:
        fetch(server.url, target)
    assert '\n' not in str(error.value)
    server.answers = [(301, {'Location': f'{server.url}.new'}, b'')]
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize('start', [0, 4000])
def test_a_server_that_refuses_every_range_is_an_error(server, target, start):
    if start:
        interrupted(server, target)
    server.answers = [(416, {'Content-Range': 'bytes */17'}, b'')] * (2 if start else 1)
    with pytest.raises(ConnectionError, match='416'):
        fetch(server.url, target)
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    'answer',
    [
        (202, {'Content-Length': '3'}, b'\0ab'),
        (206, {'Content-Range': 'bytes 0-2/3', 'Content-Length': '3'}, b'\0ab'),
        (200, {'Content-Encoding': 'gzip', 'Content-Length': '3'}, b'\0ab'),
        (200, {}, CONTENT[:5000]),
        (200, {'Content-Length': '-5'}, CONTENT[:5000]),
        (200, {'Content-Length': 'many'}, CONTENT[:5000]),
    ],
)
def test_an_answer_that_is_no_whole_file_is_refused(server, target, answer):
    server.answers = [answer]
    with pytest.raises(ConnectionError):
        fetch(server.url, target)
    assert not target.exists()


@pytest.mark.parametrize('name', ['.partial', '.lock'])
@pytest.mark.parametrize('link', ['symlink_to', 'hardlink_to'])
def test_a_link_in_place_of_our_file_is_not_written_through(server, target, name, link):
    target.parent.mkdir()
    precious = target.parent / 'precious'
    precious.write_bytes(b'precious')
    getattr(target.with_name(f'weights.pth{name}'), link)(precious)
    with pytest.raises(OSError, match='remove it'):
        fetch(server.url, target)
    assert precious.read_bytes() == b'precious'
    assert not target.exists()


def test_a_note_replaces_a_link_and_not_what_it_names(server, target):
    target.parent.mkdir()
    for name in ('.partial.state', '.sha256'):
        target.with_name(f'weights.pth{name}').symlink_to(target.parent / f'gone{name}')
    interrupted(server, target)
    fetch(server.url, target)
    verify(target)
    assert not [*target.parent.glob('gone*')]
