.DEFAULT_GOAL := help
.PHONY: help env demo test lint bench clean

STAMP := .venv/.stamp
BIN := .venv/bin
export MPLBACKEND := Agg

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

env: $(STAMP)  ## build .venv with DIALS, this package and the tools of the tests

$(STAMP): setup.py pyproject.toml constraints-debian.txt tools/make_env.sh
	@tools/make_env.sh

demo: env  ## simulate a crystal, map its diffuse scattering, compare with the truth
	@tools/demo.sh

test: lint  ## lint, then run every test
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: env  ## check style, format and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

bench: env  ## run the benchmarks
	@set -e; for script in bench/*.py; do \
	    [ ! -e "$$script" ] || $(BIN)/python "$$script"; done

clean:  ## remove everything that make builds
	rm -rf .venv build dist *.egg-info
