"""Where the recipes are: inside the installed package, or beside it in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def config_path(name: str) -> Path:
    """File of the recipe ``name``, a path below ``configs/`` without suffix.

    Raises:
        FileNotFoundError: If there is no such recipe.
    """
    # The package first: beside an installed one, configs/ would be somebody else's.
    folders = [PACKAGE / 'configs', PACKAGE.parent / 'configs']
    for folder in folders:
        path = folder / f'{name}.py'
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'there is no recipe {name}.py in {" or ".join(map(str, folders))}; name one as its path '
        'below configs/, without .py'
    )
