# One verb, one command, the same in CI. Needs Python 3.11 or newer and nothing else; everything goes into .venv here.

PYTHON ?= $(shell for p in python3 python python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)
VENV := .venv
# A second environment, because aioboto3 pins an old aiobotocore, and arq an old redis, and both have to work as well.
PINNED := .venv-aioboto3
# A third, for what others need that the benchmarks measure beside this library.
BENCH := .venv-bench
# A fourth, for the oldest FastAPI and Starlette that the adapter supports.
OLDEST := .venv-fastapi
BIN := $(VENV)/bin
# Empty for root, and where there is no sudo.
SUDO := $(shell test "$$(id -u)" = 0 || { command -v sudo >/dev/null && echo sudo -n; })
SECONDS := 600
# An engine that is named has to be present, so the one that pip cannot install is named where it is.
COMMA := ,
DYNOXIDE := $(if $(wildcard $(or $(LIMITER_ENGINES),.engines)/dynoxide),$(COMMA)dynoxide)
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
SOURCES := pyproject.toml hatch_build.py
# Tests start hundreds of processes, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test quick twins docs linkcheck test-gevent test-eventlet test-aioboto3 test-fastapi check audit soak bench bench-heat dist installed sbom workflows pythons engines checker redis limits clean
.DELETE_ON_ERROR:

help: ## List these commands.
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.demo-installed ## Run the main job on this machine.
	$(BIN)/python examples/demo/run.py

test: $(VENV)/.test-installed $(PINNED)/.test-installed ## Run every test, in each runtime.
	-@$(MAKE) --no-print-directory limits
	$(BIN)/python -m pytest -n 3 --dist worksteal tests
	$(MAKE) --no-print-directory --output-sync -j3 test-gevent test-eventlet test-aioboto3

quick: $(VENV)/.test-installed ## Run the unit, async and sync tests on the memory engine, in about a minute.
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --engines=memory tests/unit tests/async tests/sync

twins: ## Generate the sync versions from their async sources.
	@$(call need-python)
	$(PYTHON) scripts/generate_sync.py

docs: $(VENV)/.test-installed ## Build the documentation into build/docs; a warning is an error, and so is a link that leads nowhere within it.
	$(BIN)/python -m sphinx --conf-dir docs --builder html --fail-on-warning --keep-going --quiet . build/docs
	$(BIN)/python scripts/check_site.py build/docs
	@echo "open build/docs/index.html"

linkcheck: $(VENV)/.test-installed ## Call every external link of the documentation, and name the broken ones; needs the network, so CI does so once a week.
	$(BIN)/python -m sphinx --conf-dir docs --builder linkcheck --keep-going --quiet . build/linkcheck

# On every engine with PATCHED_ENGINES=memory,moto,dynoxide,dynamodb-local, which takes twice as long.
PATCHED_ENGINES ?= memory$(DYNOXIDE)
test-gevent test-eventlet: test-%:
	$(BIN)/python tests/support/run_patched.py $* --engines=$(PATCHED_ENGINES) tests/sync

# On one server: all of them are tested with aiobotocore's sessions, and the memory engine opens none.
test-aioboto3:
	$(PINNED)/bin/python -m pytest -p tests.support.aioboto3_sessions --engines=$(if $(DYNOXIDE),dynoxide,moto) tests/async tests/unit/aws \
		'tests/contrib/test_client_examples.py::test_an_example_prints_what_it_should[with_arq]'

test-fastapi: $(OLDEST)/.test-installed ## Run the tests of the FastAPI adapter on the oldest FastAPI and Starlette that it supports.
	$(OLDEST)/bin/python -m pytest -W ignore::DeprecationWarning tests/contrib/test_fastapi.py

soak: $(VENV)/.test-installed ## Load the limiter while the table fails, then while callers are killed, for 10 minutes each or SECONDS=..., then in bursts.
	LIMITER_SOAK_SECONDS=$(SECONDS) $(BIN)/python -m pytest -s tests/promises/test_soak.py tests/promises/test_conservation.py \
		tests/runtimes/test_new_keys.py

check: $(VENV)/.test-installed ## Lint, compare the generated files with their sources, and check types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/generate_sync.py --check
	$(BIN)/python scripts/generate_docs.py --check
	$(BIN)/python scripts/generate_terraform.py --check
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

bench: $(BENCH)/.bench-installed ## Measure the limiter and other libraries; ARGS=--long for publication, ARGS=--help for the options.
	$(BENCH)/bin/python -m benchmarks $(ARGS)

bench-heat: $(BENCH)/.bench-installed ## Measure fleets on one hot key, side by side with others; ARGS=--seconds 10.
	$(BENCH)/bin/python -m benchmarks.heat $(ARGS)

# Strict, since otherwise an audit that reaches no advisories passes.
audit: $(VENV)/.test-installed ## Look up all installed packages in the advisories of PyPI; needs the network.
	$(BIN)/python $(PIP_INSTALL) pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > $(VENV)/audited.txt
	$(BIN)/python -m pip_audit --strict --disable-pip --no-deps --requirement $(VENV)/audited.txt

dist: $(VENV)/.dist-installed ## Build the wheel and the source distribution into dist/, and check what PyPI would show of them.
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

installed: dist ## Run the async and sync tests on the memory engine against the built wheel, then against the source distribution.
	$(BIN)/python tests/support/run_installed.py wheel dist
	$(BIN)/python tests/support/run_installed.py sdist dist

sbom: dist ## Write the bill of materials of what an installation with [all] consists of, in CycloneDX's format, into build/sbom.json.
	rm -rf build/installation
	$(PYTHON) -m venv build/installation
	build/installation/bin/python $(PIP_INSTALL) "$$(echo dist/*.whl)[all]"
	$(BIN)/python $(PIP_INSTALL) 'cyclonedx-bom>=7'
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-file build/sbom.json build/installation

workflows: $(VENV)/.workflows-installed ## Lint the workflows of GitHub Actions: for security, and for mistakes where there is Go.
	$(BIN)/zizmor --offline --pedantic .github
	@if command -v go >/dev/null; then go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12; \
	else echo "actionlint did not run: install Go" >&2; fi

pythons: $(VENV)/.test-installed ## Run the suites on every other supported Python that is on PATH.
	$(BIN)/python tests/support/run_pythons.py

engines: ## Install the test engines that pip cannot, into .engines.
	@$(call need-python)
	$(PYTHON) scripts/install_engines.py

checker: ## Install the model checker that tests/promises needs, from Debian or Ubuntu; as root, or with sudo.
	@{ command -v spin && command -v gcc; } >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q spin gcc libc6-dev; }

redis: ## Install the Redis server that the tests of job queues start, from Debian or Ubuntu; as root, or with sudo.
	@command -v redis-server >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q redis-server; }

# Of the release that is installed, and as it is: its tests are in no wheel.
limits: $(VENV)/.test-installed ## Download the source distribution of limits, whose tests our storage has to pass, into build/limits.
	@release=$$($(BIN)/python -c 'from importlib.metadata import version; print(version("limits"))') && \
	{ test -f "build/limits/limits-$$release.tar.gz" || $(BIN)/python -m pip download --quiet --disable-pip-version-check \
		--no-binary limits --no-deps --dest build/limits "limits==$$release"; }

clean: ## Remove everything that these commands have created.
	rm -rf $(VENV) $(PINNED) $(BENCH) $(OLDEST) .venv-pythons .engines build dist htmlcov .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests scripts examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

define need-python
test -n "$(PYTHON)" || { echo "no Python 3.11 or newer on PATH; install one or call make PYTHON=/path/to/python" >&2; exit 1; }
endef

%/.pip-upgraded:
	@$(call need-python)
	$(PYTHON) -m venv $*
	$*/bin/python $(PIP_INSTALL) --upgrade 'pip>=25.1'
	touch $@

$(VENV)/.demo-installed: $(SOURCES) | $(VENV)/.pip-upgraded
	$(BIN)/python $(PIP_INSTALL) --group demo --editable '.[async,cli,local]'
	touch $@

$(VENV)/.test-installed: $(SOURCES) | $(VENV)/.pip-upgraded
	$(BIN)/python $(PIP_INSTALL) --group demo --group test --group runtimes --group check --group docs --editable '.[all]'
	touch $@

$(VENV)/.dist-installed: $(SOURCES) | $(VENV)/.pip-upgraded
	$(BIN)/python $(PIP_INSTALL) --group dist
	touch $@

$(VENV)/.workflows-installed: | $(VENV)/.pip-upgraded
	$(BIN)/python $(PIP_INSTALL) 'zizmor>=1.20'
	touch $@

$(PINNED)/.test-installed: $(SOURCES) | $(PINNED)/.pip-upgraded
	$(PINNED)/bin/python $(PIP_INSTALL) --group test --group arq --editable '.[aioboto3,cli,local]'
	touch $@

$(OLDEST)/.test-installed: $(SOURCES) | $(OLDEST)/.pip-upgraded
	$(OLDEST)/bin/python $(PIP_INSTALL) --group test --group oldest-fastapi --editable '.[fastapi]'
	touch $@

# Peers are upgraded whenever this runs: they are measured at their newest.
$(BENCH)/.bench-installed: $(SOURCES) | $(BENCH)/.pip-upgraded
	$(BENCH)/bin/python $(PIP_INSTALL) --upgrade --group bench --editable '.[async]'
	touch $@
