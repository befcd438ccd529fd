# make demo    the whole pipeline on one machine, from a fresh clone to alerts on the terminal
# make test    every test, on both brokers; installs what they need
# make check   style, types, import contracts, sizes
# make bench NAME=align
# make kafka   a real Apache Kafka on 127.0.0.1:9092 in the foreground
# Every target may be repeated; set-up that is done is not done again.

SHELL := /bin/bash
BIN := .venv/bin
NAME ?= align
PORT ?= 9092
ARGS ?=

.PHONY: help demo test check bench kafka setup tools debian weights broker constraints clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: setup weights
	@echo "demo: starting"
	@$(BIN)/streamer demo $(ARGS)

test: setup tools debian broker weights
	@echo "test: running all tests, two at a time, with coverage"
	@$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered --durations=25 $(ARGS)

check: setup tools
	@echo "check: ruff" && $(BIN)/ruff check && $(BIN)/ruff format --check
	@echo "check: mypy" && $(BIN)/mypy && $(BIN)/mypy deploy/kafka/broker.py
	@echo "check: mypy, as Python 3.12" && $(BIN)/mypy --python-version 3.12
	@echo "check: imports" && $(BIN)/lint-imports
	@echo "check: sizes, types, leaks" && $(BIN)/python -m pytest tests/house

bench: setup weights
	@[[ $(NAME) != align ]] || deploy/setup/tools.sh bench
	@$(BIN)/python -m tests.bench.$(NAME) $(ARGS)

kafka: setup
	@$(BIN)/python deploy/kafka/broker.py run --port $(PORT)

setup:
	@deploy/setup/venv.sh

tools: setup
	@deploy/setup/tools.sh

debian:
	@deploy/setup/debian.sh

weights: setup
	@$(BIN)/streamer weights pull

broker: setup debian
	@$(BIN)/python deploy/kafka/broker.py fetch

constraints: setup
	@{ sed -n 1p constraints.txt; $(BIN)/python -m pip freeze --exclude-editable --disable-pip-version-check; } > constraints.new
	@mv constraints.new constraints.txt

clean:
	rm -rf .venv .venv-tools .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage out
