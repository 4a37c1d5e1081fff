"""Folders that have not changed are not read again, and what has changed is always seen."""

import json
import os
import random
import time
from pathlib import Path

import pytest

from a2mim.datasets import folder_scan
from a2mim.datasets.folder_scan import FolderScan, listing_file, scan_folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three classes, whose listing is kept at once."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(folder_scan, 'LEAST_KEPT', 1)
    monkeypatch.setattr(folder_scan, 'SETTLED', -1.0)
    for number in range(12):
        write(tmp_path / 'images' / 'abc'[number % 3] / f'{number}.png')
    return tmp_path / 'images'


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def content(scan: FolderScan) -> tuple:
    others = {suffix: tuple(found) for suffix, found in scan.others.items()}
    return sorted(scan.paths), sorted(scan.links), sorted(scan.unread), others


def afresh(root: Path) -> FolderScan:
    """The scan of somebody who has never read the folder."""
    kept = listing_file(str(root))
    aside = kept.rename(kept.with_suffix('.aside')) if kept.is_file() else None
    scan = scan_folder(str(root))
    kept.unlink(missing_ok=True)
    if aside is not None:
        aside.rename(kept)
    return scan


def test_an_unchanged_folder_is_not_read_again(root, monkeypatch):
    first = scan_folder(str(root))
    monkeypatch.setattr(folder_scan, 'read_folder', lambda path: pytest.fail(f'reads {path}'))
    again = scan_folder(str(root))
    assert content(again) == content(first)
    assert (len(first.kept), len(again.kept)) == (0, 4)


@pytest.mark.parametrize('seed', range(6))
def test_every_change_is_seen(root, seed):
    rng = random.Random(seed)
    for step in range(12):
        scan_folder(str(root))
        time.sleep(0.02)  # more than the resolution of a folder's times
        change(root, rng, step)
        assert content(scan_folder(str(root))) == content(afresh(root))


def change(root: Path, rng: random.Random, step: int) -> None:
    """One of the changes that a folder of images sees, keeping its times where one can."""
    files = sorted(path for path in root.rglob('*.png') if path.is_file())
    folders = sorted(path for path in root.rglob('*') if path.is_dir())
    file, folder = rng.choice(files), rng.choice(folders)
    before = os.stat(file.parent)
    kind = rng.randrange(8)
    if kind == 0 and len(files) > 3:
        file.unlink()
    elif kind == 1:
        file.rename(file.with_name(f'renamed{step}.png'))
    elif kind == 2:
        file.rename(folder / f'moved{step}.png')
    elif kind == 3:
        file.unlink()
        write(file / f'{step}.png')  # a folder with the name of an image
    elif kind == 4:
        write(folder / f'deeper{step}' / 'new.png')
    elif kind == 5:
        (folder / f'link{step}').symlink_to(root.parent / 'images' / 'a')
    elif kind == 6:
        write(folder / f'note{step}.txt')
    else:
        write(file.with_name(f'odd\udc80{step}.png'))
        # As a copy that keeps times does: only the time of the inode tells.
        os.utime(file.parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_link_that_leads_elsewhere_is_followed_anew(root, tmp_path):
    write(tmp_path / 'one' / '1.png')
    write(tmp_path / 'two' / '2.png')
    (root / 'a' / 'there').symlink_to(tmp_path / 'place')
    (tmp_path / 'place').symlink_to(tmp_path / 'one')
    assert 'a/there/1.png' in scan_folder(str(root)).paths
    (tmp_path / 'place').unlink()
    (tmp_path / 'place').symlink_to(tmp_path / 'two')
    assert 'a/there/2.png' in scan_folder(str(root)).paths


def test_a_folder_that_has_just_changed_is_read_again(root, monkeypatch):
    monkeypatch.setattr(folder_scan, 'SETTLED', 60.0)
    scan_folder(str(root))
    assert scan_folder(str(root)).kept == []


def test_few_images_leave_nothing_behind(root, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_scan, 'LEAST_KEPT', 13)
    scan_folder(str(root))
    assert not (tmp_path / 'cache').exists()


@pytest.mark.parametrize('damage', ['', '[]', '{}', '{"form": 1', 'suffixes', 'root', 'folder'])
def test_a_listing_that_does_not_fit_is_not_used(root, tmp_path, damage):
    expected = scan_folder(str(root))
    file = listing_file(str(root))
    found = json.loads(file.read_text())
    if damage == 'folder':
        file.unlink()
        file.mkdir()
    elif damage in found:
        file.write_text(json.dumps({**found, damage: ['.xyz']}))
    else:
        file.write_text(damage)
    scan = scan_folder(str(root))
    assert content(scan) == content(expected) and scan.kept == []


def test_a_cache_that_cannot_be_written_costs_time_only(root, tmp_path):
    (tmp_path / 'cache').write_text('a file')
    assert len(scan_folder(str(root)).paths) == len(scan_folder(str(root)).paths) == 12
