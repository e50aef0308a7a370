# `make demo` makes a video of the example scene; `make test` runs the tests. Both set up what they need.
PYTHON ?= python3
TORCH ?= auto
PROMPT ?= orange boxes, an orange ball and an orange cone on snow at noon
SETUP = $(PYTHON) tools/environments.py --torch $(TORCH)
.PHONY: demo test test-all setup lint pictures methods guide looks examples extension

setup:
	@$(SETUP) engine host

demo: setup
	.venv/host/bin/animatic render examples/orbit.blend --prompt "$(PROMPT)" --out out/demo --force

test:
	@$(PYTHON) tools/run_tests.py --torch $(TORCH)

test-all:
	@$(PYTHON) tools/run_tests.py --torch $(TORCH) --slow

lint:
	@$(SETUP) engine
	.venv/engine/bin/ruff check .
	.venv/engine/bin/ruff format --check .
	@# mypy wants the package under its own name, whatever this folder is called.
	@mkdir -p build/lint && ln -sfn ../.. build/lint/animatic
	cd build/lint && ../../.venv/engine/bin/mypy --config-file animatic/pyproject.toml \
		-p animatic.cli -p animatic.blender_addon -p animatic.engine -p animatic.server

# The pictures of the README, from the runs that it names.
pictures: demo
	.venv/host/bin/animatic render examples/orbit.blend --out out/sunset --force \
		--prompt "purple boxes, a purple ball and a purple cone on sand at sunset"
	.venv/engine/bin/python tools/picture_strip.py out/demo docs/demo.png
	.venv/engine/bin/python tools/picture_strip.py out/sunset docs/sunset.png

# The pictures of docs/methods.md: some twenty videos.
methods: pictures
	.venv/engine/bin/python tools/method_pictures.py

# The pictures of docs/guide.md, from the window of the Blender that ANIMATIC_BLENDER names.
guide: setup
	.venv/host/bin/python tools/guide_pictures.py

# The thumbnails of presets/looks.
looks: setup
	.venv/host/bin/python tools/look_thumbnails.py

examples:
	@$(SETUP) host45
	.venv/host45/bin/python examples/build_examples.py

extension:
	@$(SETUP) host
	.venv/host/bin/python tools/build_extension.py
