# Nearsight: one command each. `make` alone says what there is.
#
# Every target sets up what it needs in .venv and leaves a stamp there, so a second run starts at once.
# Needs: make, and Python 3.11 to 3.13 with venv (PYTHON=python3.12 picks one).

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check install --quiet --quiet
# Folders that are packages, in mypy's and import-linter's sense.
HOUSE  := sdk/nearsight npu_delegate/nearsight_npu models/nearsight_models apps/nearsight_apps demos/nearsight_demos

DATA   ?= ../shared/data
WORK   ?= $(HOME)/.cache/nearsight/training
# What `make train` installs as torch: a plain `torch` may be a build with GPU libraries of several GB.
TORCH  ?= torch
# What has torch to export with, and is tested against it: an environment of its own, every version pinned.
XVENV  := .venv-export
XPY    := $(XVENV)/bin/python
XPINS  := tests/export/requirements.txt
NANO   := models/nearsight_models/embedded/nano
XPIP   := $(XPY) -m pip --disable-pip-version-check install --quiet --quiet --no-compile

# A photo folder given as PHOTOS=... reaches the tour through the environment, so that blanks in it survive.
export PHOTOS
# bench, eval and training import onnxruntime before nearsight_npu can tell it to report nothing.
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-export browser soak check bench bench-models bench-delegate eval verify-hub train wheel clean

help: ## say what each target does
	@echo "Nearsight. Targets:"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo "First one: make demo PHOTOS=~/Pictures"

demo: $(VENV)/.base ## index photographs and search them in English and Chinese: PHOTOS=~/Pictures for your own
	@$(PY) demos/nearsight_demos/tour.py

test: $(VENV)/.dev ## the whole test suite, long trials at a seeded tenth; no torch, no network, at most 10 minutes
	$(PY) -m pytest -q

test-export: $(XVENV)/.ready ## real-size families: exports against torch's own answers, on random weights; .venv-export takes 1.2 GB
	$(XPY) -m pytest -q tests/export $(if $(ONLY),-k "$(ONLY)")

browser: $(VENV)/.browser ## nearsight demo in a real browser (needs chromium): every tab does its job on real pictures
	$(PY) -m pytest -q -m browser tests/demos

soak: $(VENV)/.dev ## the same suite with the long trials at their full counts; JSON goes to bench/results
	NEARSIGHT_TRIALS=full NEARSIGHT_SOAK_JSON=bench/results $(PY) -m pytest -q --timeout=7200

check: $(VENV)/.dev ## ruff, mypy --strict, import-linter, and every example of README and docs run, warnings as errors
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict $(HOUSE)
	PYTHONPATH=demos $(VENV)/bin/lint-imports --no-cache
	$(PY) -W error -m pytest -q tests/house

bench: $(VENV)/.dev ## speed and size: ingest, query, cold start; tables on screen, JSON under bench/results
	$(PY) -m bench --data "$(DATA)" $(if $(PART),--part $(PART))

bench-models: $(XVENV)/.ready ## speed of ViT-B/32 and MobileCLIP2-S0 shapes, FP32 and INT8, against torch and plain onnxruntime
	$(XPY) -m bench.models

bench-delegate: $(XVENV)/.ready ## what the delegate chooses against the best it could have, and mixed precision against other ways to spread bytes
	@for chip in openvino qnn; do $(XPIP) --no-deps "$$(sed -n "s/^$$chip = \[\"\(.*\)\"\]/\1/p" pyproject.toml)"; done
	$(XPY) -m bench.delegate --work "$(WORK)/delegate"
	$(XPY) -m bench.mixed --data "$(DATA)" $(NANO)/image.fp16.onnx $(NANO)/text.w4.onnx $(wildcard $(WORK)/detect/detect.fp32.onnx) "$(WORK)"/delegate/models/*/onnx/vision_model.onnx "$(WORK)/delegate/models/vit-b-32/onnx/text_model.onnx"

eval: $(VENV)/.dev ## quality on DATA=../shared/data, all or PART=...; JSON under bench/results (FP32=WORK/image.fp32.onnx compares)
	$(PY) -m eval --data "$(DATA)" $(if $(PART),--part $(PART)) $(if $(FP32),--fp32 "$(FP32)")

verify-hub: $(VENV)/.hub ## with a network: pull CLIP ViT-B/32, index the tour's photographs, ask 20 questions, write a report
	@$(PY) demos/nearsight_demos/hubcheck.py

train: $(VENV)/.train ## remake the embedded weights: DATA=../shared/data WORK=~/.cache/nearsight/training (goes on where it stopped)
	cd models && ../$(PY) -m training --data "$(abspath $(DATA))" --work "$(abspath $(WORK))" --resume
	cd models && ../$(PY) -m training.detector --data "$(abspath $(DATA))" --work "$(abspath $(WORK))/detect"
	cd models && ../$(PY) -m training.caption --data "$(abspath $(DATA))" --work "$(abspath $(WORK))/caption" --resume

wheel: $(VENV)/.dev ## build the wheel and the source archive into dist
	$(PY) -m hatchling build -d dist

clean: ## remove .venv, .venv-export, caches and built files (photographs, galleries and reports under demo/ stay)
	rm -rf $(VENV) $(XVENV) .cache dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# ---------------------------------------------------------------------------------------------------------------
# The environment. A stamp is older than pyproject.toml exactly when the dependencies may have changed.

$(PY):
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("nearsight: needs Python 3.11 to 3.13, this one is %d.%d; name another with: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.pip: | $(PY)
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null
	@touch $@

$(VENV)/.base: pyproject.toml | $(VENV)/.pip
	@echo "Installing Nearsight and its base dependencies into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.pip
	@echo "Installing Nearsight with [dev] into $(VENV) ..."
	@$(PIP) --editable '.[dev]'
	@for chip in openvino qnn; do $(PIP) --editable ".[$$chip]" || echo "LEFT OUT: no build of $$chip for this machine; its tests say so"; done
	@touch $(VENV)/.base $@

$(VENV)/.browser: pyproject.toml | $(VENV)/.dev
	@echo "Installing gradio and playwright into $(VENV) ..."
	@$(PIP) --editable '.[browser]'
	@touch $@

$(VENV)/.hub: pyproject.toml | $(VENV)/.base
	@echo "Installing Nearsight with [hub] into $(VENV) ..."
	@$(PIP) --editable '.[hub]'
	@touch $(VENV)/.base $@

$(VENV)/.train: pyproject.toml | $(VENV)/.pip
	@echo "Installing Nearsight with [train] into $(VENV): torch is large ..."
	@$(PIP) '$(TORCH)'
	@$(PIP) --editable '.[train]'
	@touch $(VENV)/.base $@

# torch first, with all that its build for this machine wants; the rest exactly as pinned (tests/export/requirements.txt).
$(XVENV)/.ready: pyproject.toml $(XPINS) | $(VENV)/.pip
	@echo "Setting up $(XVENV): torch is large ..."
	@test -x $(XPY) || $(PY) -m venv $(XVENV)
	@$(XPIP) --constraint $(XPINS) "$$(sed -n 's/^torch==/&/p' $(XPINS))"
	@$(XPIP) --no-deps --requirement $(XPINS)
	@$(XPIP) --no-deps --editable .
	@touch $@
