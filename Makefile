# make run    the whole service on http://localhost:8080, with servers of its own where none are configured
# make test   all tests, with real PostgreSQL and Redis
# make check  format, lint, types, import contracts, unit tests
# make coherence  a million reads under random faults, held against what was acknowledged; some 13 minutes
# make engines  three simulated engines and 200 sessions for five minutes, everything killed at random: every wish comes true
# make chaos  faults against real processes under load, each with its limits; half an hour (K=name: only those)
# make bench  reads a second and more, beside other caches, all in one run; wrk makes the load
# make picture  an outage of Redis, as Prometheus saw it, for the README
# make monitoring  Prometheus with our rules and alerts, beside a service that runs on port 8080
# make dashboards  Grafana's dashboards anew, from their generator
# make fix    let the formatter and the linter mend what they can
# make migrate, make doctor   the commands of the same names
# make lock   pin the dependencies anew (UPGRADE=1: to the newest versions)
# make clean  remove what was built (data/ and log/ stay)
#
# All that is needed is Python >= 3.11 with venv and pip: `make run PYTHON=python3.12` chooses one.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
PYTEST_OPTIONS ?=
COHERENCE_OPTIONS ?=
ENGINES_OPTIONS ?=
PROMETHEUS_PORT ?= 9090

.DEFAULT_GOAL := run
.PHONY: run test check coherence engines chaos bench picture monitoring dashboards fix migrate doctor lock clean

# The service replaces the shell, so that signals reach it. What .env says about LOG_FILE is left to the service.
run: $(VENV)/run.stamp
	@grep -qs '^ *LOG_FILE=.' .env || export LOG_FILE="$${LOG_FILE:-log/app.log}"; \
		mkdir -p "$$(dirname "$${LOG_FILE:-log/app.log}")"; \
		exec $(VENV)/bin/python -m zpmeow serve

migrate doctor: $(VENV)/run.stamp
	@exec $(VENV)/bin/python -m zpmeow $@

# The tests with whole services and their load have the machine for themselves.
test: $(VENV)/dev.stamp
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --ignore tests/acceptance/real --ignore tests/coherence \
		--ignore tests/engines $(PYTEST_OPTIONS)
	$(VENV)/bin/python -m pytest tests/acceptance/real tests/coherence tests/engines $(PYTEST_OPTIONS)
	$(VENV)/bin/python -m pytest deploy/chaos -m quick --tell-times $(PYTEST_OPTIONS)

coherence: $(VENV)/dev.stamp
	$(VENV)/bin/python -m tests.coherence --reads 1000000 $(COHERENCE_OPTIONS)

engines: $(VENV)/dev.stamp
	$(VENV)/bin/python -m tests.engines --seconds 300 $(ENGINES_OPTIONS)

chaos: $(VENV)/dev.stamp
	$(VENV)/bin/python -m pytest deploy/chaos -m chaos $(if $(K),-k "$(K)") $(PYTEST_OPTIONS)

bench: $(VENV)/bench.stamp
	$(VENV)/bin/python -m benchmarks $(PARTS)

picture: $(VENV)/bench.stamp
	$(VENV)/bin/python -m deploy.chaos.picture docs/redis-outage.png

# Prometheus replaces the shell, so that Ctrl-C reaches it; its data stays in data/prometheus.
monitoring:
	@command -v prometheus >/dev/null || { echo "Prometheus is missing (Debian: apt-get install prometheus)" >&2; exit 1; }
	@echo "Prometheus: http://localhost:$(PROMETHEUS_PORT)/alerts (scrapes http://localhost:8080/metrics)"
	@mkdir -p data/prometheus; exec prometheus --config.file=deploy/prometheus/local.yml \
		--storage.tsdb.path=data/prometheus --web.listen-address=127.0.0.1:$(PROMETHEUS_PORT) --log.level=warn

dashboards: $(VENV)/dev.stamp
	$(VENV)/bin/python -m deploy.grafana.generator

check: $(VENV)/dev.stamp
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m pytest tests/unit tests/architecture $(PYTEST_OPTIONS)

fix: $(VENV)/dev.stamp
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

lock: $(VENV)/tools.stamp
	.ci/lock $(VENV)/tools/bin/python

clean:
	rm -rf $(VENV) .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# A stamp is older than the lock it was made from after a pull: then the new versions are installed over the old ones.
$(VENV)/run.stamp: requirements-embedded.lock .ci/install | $(VENV)/bin/python
	@test $(VENV)/dev.stamp -nt $< || .ci/install $(VENV) $<
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock .ci/install | $(VENV)/bin/python
	@.ci/install $(VENV) $<
	@touch $@

$(VENV)/bench.stamp: requirements-bench.lock .ci/install | $(VENV)/dev.stamp
	@.ci/install $(VENV) $<
	@touch $@

$(VENV)/tools.stamp: | $(VENV)/bin/python
	@$(VENV)/bin/python -m venv $(VENV)/tools
	@$(VENV)/tools/bin/python -m pip install --quiet 'pip-tools>=7.5,<8' 'pip<26'
	@touch $@
