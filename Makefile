# `make` lists the targets. Everything lives in .venv; PYTHON names the interpreter that makes it.
PYTHON ?= python3.11
SWEEP ?= default
ARGS ?=
# cpu installs faiss-cpu, gpu installs faiss-gpu: they own the same package, so exactly one.
FAISS ?= cpu
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help sweep test report published wandb-sync bench notebooks check lock clean

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

wandb-sync: .venv/ready ## send the W&B runs that were kept offline; needs WANDB_API_KEY or wandb login
	$(BIN)/python -m pipeline.reporting.wandb results

bench: .venv/ready-test ## compare speed and trust of figures (ARGS="instrument" takes one); needs XQUAD_R_DIR
	OMP_WAIT_POLICY=passive OMP_NUM_THREADS=2 $(BIN)/python -m pipeline.bench $(ARGS)

notebooks: .venv/ready-test ## run the notebooks again and keep their outputs
	$(BIN)/python tests/run_notebooks.py

check: .venv/ready-test ## lint and type-check
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy pipeline

lock: .venv/ready-test ## write what is installed to constraints.txt
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean: ## remove the environment (results stay)
	rm -rf .venv

# pip alone, with every version pinned. On PyPI torch for Linux is the CUDA build (gigabytes), so a CPU machine takes
# PyTorch's own CPU wheel; where that index cannot be reached, pip takes the build that it finds.
CPU_WHEELS := https://download.pytorch.org/whl/cpu
PIP := $(BIN)/pip --quiet --disable-pip-version-check

.venv/ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "error: $(PYTHON) is missing: install Python 3.11, or name it with PYTHON=..."; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "error: PYTHON=$(PYTHON) is not Python 3.11"; exit 2; }
	$(PYTHON) -m venv .venv
ifeq ($(FAISS),cpu)
	$(PIP) install --constraint constraints.txt --no-deps --index-url $(CPU_WHEELS) --timeout 10 --retries 1 torch \
	  || echo "$(CPU_WHEELS) cannot be reached: taking torch from the default index"
endif
	$(PIP) install --constraint constraints.txt --editable '.[$(FAISS)]'
	touch $@

.venv/ready-test: .venv/ready
	$(PIP) install --constraint constraints.txt --editable '.[$(FAISS),test]'
	touch $@
