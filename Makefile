# `make demo` and `make test` each work alone on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test docs clean

demo: $(BIN)/asr
	$(BIN)/asr run recipes/digits
	$(BIN)/asr transcribe work/digits/default/model work/digits/default/manifests/example.wav

test: $(BIN)/asr
	tools/check

docs: $(BIN)/asr
	$(BIN)/mkdocs build --quiet

$(BIN)/asr: requirements.lock tools/uv.lock pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement tools/uv.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
		--requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $(BIN)/asr

clean:
	rm -rf .venv work
