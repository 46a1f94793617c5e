# make demo   sample the reference flow model in a real ComfyUI, without TokenCache, with it, and in as many plain steps
# make test   run every test           (make test PYTEST_ARGS="-m 'not server' -x")
# make check  style, types and the tests of the core: what to run before a commit, in two minutes
# make setup  only prepare .venv/ and .comfyui/ (the other targets do it first; a second time it is instant)
# make screenshots  run the example workflows on ComfyUI's page in Chromium, and write the pictures of help pages, README and templates
#
# PYTHON        the Python 3.11+ that the virtual environment is made from
# COMFYUI_PATH  a ComfyUI that is already there, used instead of .comfyui/
PYTHON ?= python3
VENV_PYTHON := .venv/bin/python

.PHONY: demo test check setup screenshots
demo: setup
	@$(VENV_PYTHON) scripts/demo.py $(DEMO_ARGS)

test: setup
	@$(VENV_PYTHON) scripts/chromium.py
	@$(VENV_PYTHON) -m pytest -n auto --maxprocesses 4 $(PYTEST_ARGS)

check: setup
	@$(VENV_PYTHON) scripts/checks.py $(CHECK_ARGS)

setup:
	@$(PYTHON) scripts/setup.py

screenshots: setup
	@$(VENV_PYTHON) scripts/screenshots.py
