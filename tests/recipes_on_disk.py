"""The configs of the repository, as tests walk over them."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / 'configs').rglob('*.py'))
EXPERIMENTS = [path for path in FILES if '_base_' not in path.parts]


def name_of(path: Path) -> str:
    """Path below ``configs/`` without its suffix."""
    return str(path.relative_to(ROOT / 'configs').with_suffix(''))
