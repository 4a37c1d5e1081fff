import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from a2mim.weights.released import config_path

ROOT = Path(__file__).parents[2]
RECIPE = 'openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300'


def test_a_checkout_has_its_recipes_beside_the_package():
    assert config_path(RECIPE) == ROOT / 'configs' / f'{RECIPE}.py'


def test_an_unknown_recipe_is_named():
    with pytest.raises(FileNotFoundError, match=r'no config a/b\.py in .*path below configs/'):
        config_path('a/b')


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """The package as a wheel installs it, built from a copy: building leaves files behind."""
    source, place = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('site')
    for name in ('setup.py', 'pyproject.toml', 'requirements.txt', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(ROOT / 'a2mim', source / 'a2mim', ignore=ignored)
    options = ['--no-deps', '--no-build-isolation', '--no-index', '--quiet']
    command = [sys.executable, '-m', 'pip', 'wheel', *options, '-w', str(place), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    with zipfile.ZipFile(next(place.glob('a2mim-*.whl'))) as wheel:
        wheel.extractall(place)
    return place


@pytest.mark.integration
def test_a_wheel_holds_every_recipe_and_tool_and_the_table(installed):
    def below(folder):
        found = (path for path in folder.rglob('*.*') if path.suffix in ('.py', '.sh', '.yml'))
        # The link to the package of a checkout stays there.
        return {path.relative_to(folder) for path in found if path.name != 'a2mim.py'}

    for name in ('configs', 'tools'):
        assert below(installed / 'a2mim' / '.mim' / name) == below(ROOT / name)
    assert not [*(installed / 'a2mim' / '.mim').rglob('a2mim.py')]
    index = yaml.safe_load((installed / 'a2mim/.mim/model-index.yml').read_text())
    assert all((installed / 'a2mim/.mim' / name).is_file() for name in index['Import'])
    assert (installed / 'a2mim' / 'weights' / 'released.json').is_file()


@pytest.mark.integration
def test_an_installed_package_builds_from_its_own_recipes(installed):
    code = (
        'import a2mim, a2mim.weights.released\n'
        f'print(a2mim.weights.released.config_path({RECIPE!r}))\n'
        "print(type(a2mim.load_model('a2mim_resnet50_300e', pretrained=False)).__name__)"
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=installed,
        env=dict(PYTHONPATH=str(installed), PATH='', OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(installed / 'a2mim/.mim/configs' / f'{RECIPE}.py'), 'A2MIM']
