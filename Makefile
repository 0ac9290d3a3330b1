# `make` lists the targets. Everything lives in .venv; PYTHON names the interpreter that makes it.
PYTHON ?= python3.11
SWEEP ?= default
ARGS ?=
# cpu installs faiss-cpu, gpu installs faiss-gpu: they own the same package, so exactly one.
FAISS ?= cpu
BUILDER ?= docker
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH_CPU := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help sweep test report published docs wandb-sync bench image notebooks check lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

sweep: .venv/ready ## run sweeps/$(SWEEP).yaml, from set-up to the fronts (ARGS="seed=0,1" adds overrides)
	$(BIN)/python -m pipeline.run --config-dir sweeps --config-name $(SWEEP) $(ARGS)

test: .venv/ready-test ## run all tests, from set-up on
	$(BIN)/python -m pytest $(ARGS)

report: .venv/ready ## draw the fronts of results/$(SWEEP) again
	$(BIN)/python -m pipeline.report sweep=$(SWEEP) $(ARGS)

published: .venv/ready ## profile public architectures and choose one by published accuracy (XQUAD_R_DIR, PUBLISHED_DIR)
	$(BIN)/python -m pipeline.run --config-dir sweeps --config-name published $(ARGS)
	$(BIN)/python -m pipeline.published published

docs: .venv/ready-docs ## build the documentation as a site, docs/build/site; a broken link fails
	rm -rf docs/build && mkdir -p docs/build/pages/docs docs/build/pages/results
	cp README.md CONTRIBUTING.md CHANGELOG.md docs/build/pages
	cp -r docs/*.md docs/images docs/build/pages/docs
	cp -r results/reference docs/build/pages/results
	$(BIN)/zensical build --strict --clean --config-file docs/zensical.toml

wandb-sync: .venv/ready ## send the W&B runs that were kept offline; needs WANDB_API_KEY or wandb login
	$(BIN)/python -m pipeline.sync results

bench: .venv/ready-test ## compare speed and trust of figures (ARGS="instrument" takes one); needs XQUAD_R_DIR
	OMP_WAIT_POLICY=passive OMP_NUM_THREADS=2 $(BIN)/python -m pipeline.bench $(ARGS)

image: ## build a container image of the commands, paretrieve:cpu or, with FAISS=gpu, paretrieve:gpu (BUILDER=podman)
	$(BUILDER) build --build-arg FAISS=$(FAISS) --tag paretrieve:$(FAISS) $(ARGS) .

notebooks: .venv/ready-test ## run the notebooks again and keep their outputs
	$(BIN)/python tests/run_notebooks.py

check: .venv/ready-test ## lint and type-check
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy pipeline

lock: .venv/ready-test ## write what is installed to constraints.txt
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean: ## remove the environment (results stay)
	rm -rf .venv

# All versions are pinned. torch comes first: PyPI's build for Linux holds gigabytes of CUDA, so the CPU build is taken
# from PyTorch's own index. That index is asked for torch alone, so it decides no other package.
.venv/ready: pyproject.toml constraints.txt | .venv/bin/python3.11
ifeq ($(FAISS),cpu)
	$(PIP) --timeout 15 --retries 1 --no-deps --index-url $(TORCH_CPU) torch || \
	    echo "make: no torch from $(TORCH_CPU): pip goes on with the build that its own index has" >&2
endif
	$(PIP) --editable '.[$(FAISS)]'
	touch $@

.venv/ready-test: .venv/ready
	$(PIP) --editable '.[$(FAISS),test]'
	touch $@

.venv/ready-docs: .venv/ready
	$(PIP) --editable '.[$(FAISS),docs]'
	touch $@

# Checked before anything is written: pip would refuse another Python only after it has made the environment.
.venv/bin/python3.11:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	    echo "make: this needs Python 3.11, and $(PYTHON) is missing or another version." \
	        "Install it, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
