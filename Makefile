# Everything below sets itself up on a machine that has Python 3.10 to 3.14, make and pip.

# First those that every version of Airflow supports: 2.11 and 3.0 have no release for 3.13, 3.1 none for 3.14.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.10 python3.13 python3.14 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$python && break; \
	done)
NEEDS_PYTHON = @test -n "$(PYTHON)" || { echo "Python 3.10 to 3.14 is needed, and none is on the PATH:" \
	"install one, or set PYTHON=/path/to/python." >&2; exit 1; }
AIRFLOW_3 = 3.3.2
AIRFLOW_2 = 2.11.2
VERSIONS = $(AIRFLOW_3) 3.1.8 $(AIRFLOW_2)
EVERY_VERSION = $(AIRFLOW_3) 3.2.2 3.1.8 3.0.6 $(AIRFLOW_2)
IN_PRODUCTION = $(AIRFLOW_3) $(AIRFLOW_2)
MINUTES = 60
PROCESSES = 4
# What `make quick` compares with.
BASE = main
# Earth Engine's API, its emulator and the documents: the same whichever Airflow there is.
KNOWS_NO_AIRFLOW = tests/unit/earth_engine tests/unit/emulator tests/unit/test_*.py \
	$(patsubst %,tests/integration/test_%.py,credentials_in_flight drivers emulator exports_of faults hostile_answers \
	pages shared_poller transports)
# Where the programs in evidence/ find what they share with the tests.
MEASURING = PYTHONPATH=$(CURDIR):$(CURDIR)/tests/support:$(CURDIR)/tests/system:$(CURDIR)/tests/model
# System tests that do not use the Airflow that the others share: they boot their own, or none.
APART = $(patsubst %,tests/system/test_%.py,collector many interrupt lifecycle_page who_may)
VENV_3 = .venv-$(AIRFLOW_3)
VENV_2 = .venv-$(AIRFLOW_2)

.PHONY: demo quick test system-and-2 apart-and-model lint unit-3 unit-2 model system apart nightly examples walk explore matrix matrix-production bench soak soak-production evidence google interface ui clients pictures libraries roles versions dist docs clean
.PRECIOUS: .venv-%/installed .demo/matrix-%.json

demo: $(VENV_3)/installed  ## Airflow and an emulated Earth Engine: watch exports being cancelled (KEEP=1 stays up)
	$(VENV_3)/bin/python -m dev.demo --dags-folder example_dags

quick: $(VENV_3)/installed  ## A minute: style, the unit tests, the integration tests of what differs from BASE
	$(VENV_3)/bin/ruff format --check .
	$(VENV_3)/bin/ruff check .
	$(VENV_3)/bin/python -m pytest --quiet --numprocesses $(PROCESSES) tests/unit $$($(VENV_3)/bin/python -m dev.changed $(BASE))

test: lint  ## Everything that has to pass
	$(MAKE) --jobs=3 --output-sync=recurse system-and-2 apart-and-model unit-3 PROCESSES=2
	$(VENV_3)/bin/coverage combine -q
	$(VENV_3)/bin/coverage report

lint: $(VENV_3)/installed  ## Style, types and layers
	$(VENV_3)/bin/ruff format --check .
	$(VENV_3)/bin/ruff check .
	$(VENV_3)/bin/mypy
	$(VENV_3)/bin/lint-imports

# A real Airflow lets a core idle for most of the time: three of these take about as long as one.
system-and-2: $(VENV_3)/installed $(VENV_2)/installed
	@$(MAKE) system
	@$(MAKE) unit-2

apart-and-model: $(VENV_3)/installed $(VENV_2)/installed
	@$(MAKE) apart
	@$(MAKE) model

# More processes than cores: most tests wait for a clock or a server most of the time.
unit-3: $(VENV_3)/installed  ## Unit and integration tests on Airflow 3
	$(VENV_3)/bin/coverage run -m pytest --numprocesses $(PROCESSES) --durations=15 tests/unit tests/integration

# Without coverage: that would take two fifths more of a processor's time.
unit-2: $(VENV_2)/installed  ## The same on Airflow 2, but for what knows no Airflow
	$(VENV_2)/bin/python -m pytest --numprocesses $(PROCESSES) --durations=15 tests/unit tests/integration \
		$(KNOWS_NO_AIRFLOW:%=--ignore-glob=%)

model: $(VENV_3)/installed $(VENV_2)/installed  ## The product's own code in a model of Airflow that strikes at each step
	$(VENV_3)/bin/python -m pytest --numprocesses 2 --durations=5 -m "not nightly" tests/model
	$(VENV_2)/bin/python -m pytest --numprocesses 2 --durations=5 -m "not nightly" tests/model

system: $(VENV_3)/installed  ## A real Airflow, driven through its REST API
	$(VENV_3)/bin/python -m pytest tests/system -s --durations=12 -m "not nightly" $(APART:%=--ignore=%)

apart: $(VENV_3)/installed $(VENV_2)/installed  ## The collector, an editor of connections, Ctrl-C: system tests with an Airflow of their own
	$(VENV_3)/bin/python -m pytest $(APART) -s --durations=5 -m "not nightly"
	$(VENV_2)/bin/python -m pytest tests/system/test_interrupt.py --durations=3 -m "not nightly"

nightly: $(VENV_3)/installed $(VENV_2)/installed  ## What takes too long for `make test`: more cells and ways, outages in production, the model's mutants and traces
	$(VENV_3)/bin/python -m pytest tests/system -m nightly
	$(VENV_2)/bin/python -m pytest tests/system/test_interrupt.py -m nightly
	$(VENV_3)/bin/python -m pytest --numprocesses 2 tests/model -m nightly
	$(VENV_2)/bin/python -m pytest --numprocesses 2 tests/model -m nightly

examples: $(VENV_3)/installed  ## The code blocks of the documents, from example_dags/
	$(VENV_3)/bin/python tests/support/examples_in_docs.py

walk: $(VENV_3)/installed  ## How many files and functions one export goes through, and the package's lines
	$(MEASURING) $(VENV_3)/bin/python evidence/walk.py

matrix: $(VERSIONS:%=.demo/matrix-%.json) $(VERSIONS:%=.demo/moments-%.json)  ## Every way a run can end: docs/results/lifecycle.md
	$(MEASURING) $(VENV_3)/bin/python evidence/matrix.py render docs/results/lifecycle.md $(VERSIONS:%=.demo/matrix-%.json) \
		--moments $(VERSIONS:%=.demo/moments-%.json)

matrix-production: $(IN_PRODUCTION:%=.demo/matrix-%-production.json)  ## The same as in production (PostgreSQL, Redis)
	$(MEASURING) $(VENV_3)/bin/python evidence/matrix.py render docs/results/lifecycle.md $^

soak: $(VENV_3)/installed  ## Half an hour of a bad day on a real Airflow: docs/results/reliability.md
	$(MEASURING) $(VENV_3)/bin/python evidence/soak.py docs/results/reliability.md $(SOAK)

soak-production: $(VENV_3)/installed  ## The same as in production: docs/results/reliability-in-production.md (PostgreSQL, Redis)
	$(MEASURING) $(VENV_3)/bin/python evidence/soak.py docs/results/reliability-in-production.md --production \
		--minutes 60 --exports 1250 $(SOAK)

explore: $(EVERY_VERSION:%=explore-%)  ## The model, on each version for as long as MINUTES says: docs/results/reliability.md

explore-%: .venv-%/installed
	$(MEASURING) .venv-$*/bin/python evidence/explore.py --minutes $(MINUTES) --page docs/results/reliability.md

bench: $(VENV_3)/installed .venv-google/installed .venv-libraries/installed  ## What it costs: docs/results/performance*.md (two hours; ONLY="start cancel" takes less)
	PYTHONPATH=$(CURDIR) PYTHON_WITH_GOOGLE=$(CURDIR)/.venv-google/bin/python \
		PYTHON_WITH_LIBRARIES=$(CURDIR)/.venv-libraries/bin/python $(VENV_3)/bin/python benchmarks/report.py docs/results/performance.md $(ONLY)

evidence: $(VENV_3)/installed  ## Which pages of test results are of this code
	$(VENV_3)/bin/python -m dev.evidence

google: .venv-google/installed  ## A connection of Google's provider: both parsers side by side
	.venv-google/bin/python -m pytest tests/integration/test_google_connection.py

interface: $(VENV_3)/installed  ## The reference, from the classes: docs/reference
	PYTHONPATH=$(CURDIR):tests/support $(VENV_3)/bin/python tests/support/interface.py docs/reference

ui:  ## The page in Airflow's UI, bundled; needs Node.js and npm
	cd airflow_ee_provider/plugins/www && npm install --no-package-lock --no-audit --no-fund && npm run check && npm run build

clients: .venv-clients/installed  ## The JavaScript client, and the newest Python client with its own tests, against the emulator; needs npm
	npm install --prefix .demo/node --no-package-lock --no-save --no-audit --no-fund @google/earthengine@1.7.45
	.venv-clients/bin/python -m pytest -p airflow_ee_provider.testing tests/unit/emulator/test_*client*.py

pictures: $(VENV_3)/installed  ## The page, in pictures: docs/page-*.png (needs Chromium)
	$(MEASURING) $(VENV_3)/bin/python evidence/pictures.py docs

libraries: .venv-libraries/installed  ## Libraries that people use, inside @task.earth_engine: docs/results/libraries.md
	$(MEASURING):$(CURDIR)/evidence/libraries/dags .venv-libraries/bin/python evidence/libraries/measure.py docs/results/libraries.md
	.venv-libraries/bin/python -m pytest tests/integration/test_pages.py

roles: .venv-roles/installed  ## Who sees and cancels what on the page, by role and auth manager: docs/results/roles.md
	$(MEASURING) .venv-roles/bin/python evidence/roles/measure.py docs/results/roles.md

versions: .venv-uv/installed  ## Every version that is claimed: docs/results/versions.md (ONLY="3.0 newest" takes less)
	.venv-uv/bin/python evidence/versions/measure.py --processes $(PROCESSES) docs/results/versions.md $(ONLY)

dist: .venv-uv/installed  ## Wheel, sdist and their bill of materials, checked as a user meets them: dist/
	rm -rf dist
	.venv-uv/bin/python -m build --outdir dist .
	.venv-uv/bin/twine check --strict dist/*.whl dist/*.tar.gz
	.venv-uv/bin/python evidence/versions/wheel.py dist $(VERSIONS)

docs: $(VENV_3)/docs  ## The documents as a site: docs/_build/html
	$(VENV_3)/bin/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going --jobs 2 docs docs/_build/html

$(VENV_3)/docs: $(VENV_3)/installed
	$(VENV_3)/bin/pip install --quiet --constraint constraints/airflow-$(AIRFLOW_3).txt --group docs
	touch $@

.venv-uv/installed:
	$(NEEDS_PYTHON)
	$(PYTHON) -m venv --clear .venv-uv
	.venv-uv/bin/pip install --quiet --disable-pip-version-check "uv>=0.9" "tabulate>=0.9" \
		"build>=1.2" "twine>=6" "readme-renderer[md]>=44" "cyclonedx-bom>=7"
	touch $@

# No Airflow: the newest clients as they are.
.venv-clients/installed:
	$(NEEDS_PYTHON)
	$(PYTHON) -m venv --clear .venv-clients
	.venv-clients/bin/pip install --quiet --disable-pip-version-check --upgrade earthengine-api aiohttp requests \
		pytest hypothesis psutil absl-py geopandas numpy pandas
	touch $@

.venv-libraries/installed: pyproject.toml constraints/airflow-$(AIRFLOW_3).txt
	$(NEEDS_PYTHON)
	$(PYTHON) -m venv --clear .venv-libraries
	.venv-libraries/bin/pip install --quiet --disable-pip-version-check "pip==26.0"
	.venv-libraries/bin/pip install --quiet --constraint constraints/airflow-$(AIRFLOW_3).txt \
		"apache-airflow==$(AIRFLOW_3)" --editable ".[earthengine,testing]" --group test psutil geemap geetools eemont xee \
		geedim geeup hydrafloods openet-core ee-client
	$(PYTHON) -m venv --clear .venv-libraries/older
	.venv-libraries/older/bin/pip install --quiet --disable-pip-version-check "pip==24.0"
	.venv-libraries/older/bin/pip install --quiet --disable-pip-version-check --no-deps --target .venv-libraries/beside eeUtil
	rm -rf .venv-libraries/older
	touch $@

# Flask-AppBuilder needs a python-dateutil older than the constraints have.
.venv-roles/installed: pyproject.toml constraints/airflow-$(AIRFLOW_3).txt
	$(NEEDS_PYTHON)
	$(PYTHON) -m venv --clear .venv-roles
	.venv-roles/bin/pip install --quiet --disable-pip-version-check "pip==26.0"
	grep -v "^python-dateutil==" constraints/airflow-$(AIRFLOW_3).txt > .venv-roles/constraints.txt
	.venv-roles/bin/pip install --quiet --constraint .venv-roles/constraints.txt "apache-airflow==$(AIRFLOW_3)" \
		--editable ".[demo,testing]" --group test apache-airflow-providers-fab apache-airflow-providers-keycloak
	touch $@

# The Google provider, whose imports are compared with ours, brings a hundred packages along.
.venv-google/installed:
	$(NEEDS_PYTHON)
	$(PYTHON) -m venv --clear .venv-google
	.venv-google/bin/pip install --quiet --disable-pip-version-check "pip==26.0"
	.venv-google/bin/pip install --quiet --disable-pip-version-check "apache-airflow==$(AIRFLOW_3)" \
		"apache-airflow-providers-google>=22" psutil --editable . --group test
	touch $@

.demo/matrix-%.json: .venv-%/installed $(shell find airflow_ee_provider evidence tests/system -name '*.py')
	mkdir -p .demo
	$(MEASURING) .venv-$*/bin/python evidence/matrix.py measure $@

.demo/matrix-%-production.json: .venv-%/installed $(shell find airflow_ee_provider evidence tests/system -name '*.py')
	mkdir -p .demo
	$(MEASURING) .venv-$*/bin/python evidence/matrix.py measure $@ --production

.demo/moments-%.json: .venv-%/installed $(shell find airflow_ee_provider evidence tests/system -name '*.py')
	mkdir -p .demo
	$(MEASURING) .venv-$*/bin/python evidence/moments.py $@

.venv-%/installed: pyproject.toml constraints/airflow-%.txt
	$(NEEDS_PYTHON)
	$(PYTHON) -m venv --clear .venv-$*
	.venv-$*/bin/pip install --quiet --disable-pip-version-check "pip==26.0"
	.venv-$*/bin/pip install --quiet --constraint constraints/airflow-$*.txt "apache-airflow==$*" \
		--editable ".[demo,earthengine,testing]" --group test --group lint --group production
	touch $@

clean:  ## Forget all that was set up
	rm -rf .venv-* .demo .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
