# The tasks of a developer, and of the gate (.ci/run). They need the extras [test] and [docs].
.PHONY: all lint format types test docs

all: lint types test docs

lint:
	ruff check .
	ruff format --check .
	codespell

format:
	ruff check --fix .
	ruff format .

types:
	pyright

test:
	pytest

# MkDocs looks only at pages and code that are here: it needs no network.
docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
