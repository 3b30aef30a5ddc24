# Two commands do everything on a fresh machine: `make demo` and `make test`.
.PHONY: demo test lint format bench lock-dev clean

demo:            ## set up, lock, build, and draw notebooks/maps.png in the container
	@tools/demo

test:            ## set up and run the whole test suite
	@tools/setup tests
	.venv/bin/python -m pytest $(ARGS)

lint:            ## what CI checks besides the tests
	@tools/setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format:
	@tools/setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench:           ## measure, as ratios against baselines made in the same call
	@tools/setup
	.venv/bin/python bench/run

lock-dev:        ## pin the development tools anew
	.venv/bin/python -m pip install -q uv==0.13.9
	.venv/bin/uv pip compile pyproject.toml --group dev --python-version 3.11 --universal --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock-dev" -q -o requirements/dev.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
	-tools/rig down
