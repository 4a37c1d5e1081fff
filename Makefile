# Every check by one name, the same here and in CI. All run in the active Python environment.
.PHONY: help install lint type test integration docs site linkcheck notebooks constraints package

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile

install:  ## the package, editable, with everything that the other targets need
	pip install -e '.[test]'

lint:  ## style and formatting
	ruff check . && ruff format --check .

type:  ## types of the package
	pyright a2mim

test:  ## the default tests
	python -m pytest -n 2

integration:  ## tests that start processes or take minutes
	python -m pytest -n 2 -m '(integration or slow) and not transfer'

docs:  ## update what is generated in the documentation and build the site; fail if it was outdated
	@outdated=0; for tool in ledger/make_ledger development/make_code_tour development/make_gallery; do \
		python tools/$$tool.py --check || { python tools/$$tool.py; outdated=1; }; \
	done; exit $$outdated
	@if python -c 'import sphinx' 2> /dev/null; then $(MAKE) site; \
		else echo "the site is not built: pip install -e '.[docs]'"; fi

site:  ## the documentation as HTML in docs/_build/html; a warning is an error
	python -m sphinx -W --keep-going -E -q -b html docs docs/_build/html

linkcheck:  ## the links of the site to other sites; needs a network
	python -m sphinx -q -b linkcheck docs docs/_build/linkcheck

notebooks:  ## write the notebooks anew from their sources, and execute them; needs the extra [seg], too
	cd examples && jupytext --quiet --to ipynb *.py
	python -m pytest -n 0 --nbmake --nbmake-timeout=900 --overwrite examples

constraints:  ## lock every version that a fresh install takes, for all Pythons and platforms
	uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-annotate --no-header \
		--extra test --extra docs --extra notebooks --extra seg --extra det --output-file constraints.txt pyproject.toml

package:  ## sdist and wheel in dist/, checked as the package index does
	rm -rf build dist && python -m build && twine check --strict dist/*
