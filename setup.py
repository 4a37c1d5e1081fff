"""The part of the packaging that is computed: the description, README.md with absolute links.

Everything else is in pyproject.toml; the dependencies are in requirements.txt.
"""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINK = re.compile(r'(!?)\[([^\]]*)\]\(/?(?![a-z]+:|#)([^)\s]+)\)')


def describe() -> str:
    """README.md as a package index shows it: links and pictures lead to the repository."""
    (source,) = re.findall("^Source = '(.+)'", (ROOT / 'pyproject.toml').read_text(), re.MULTILINE)
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    kinds = {'!': 'raw', '': 'blob'}
    return LINK.sub(lambda m: f'{m[1]}[{m[2]}]({source}/{kinds[m[1]]}/main/{m[3]})', text)


setup(long_description=describe(), long_description_content_type='text/markdown')
