# The front door. Meson and Ninja do the work underneath; each target says what it needs and gets it.

BUILD        ?= build
PREFIX       ?= /usr/local
FUZZ_SECONDS ?= 30
export BUILD PREFIX FUZZ_SECONDS

.PHONY: build demo test check bench fuzz deps install kernel image clean help

build: ## Build the program: build/src/cli/tmkms
	@tools/build.sh

demo: ## Watch an enclave sign the blocks of a real chain
	@tools/deps.sh demo
	@tools/build.sh
	@python3 tools/demo.py

test: ## Run every test that this machine can run; says what it skips and why
	@tools/deps.sh test
	@python3 tools/run_tests.py test

check: ## The inner loop: source gates and core tests, under a minute
	@tools/deps.sh check
	@python3 tools/run_tests.py check

bench: ## Measure signatures a second, latency, reconnects and memory; table and build/bench.json
	@tools/deps.sh bench
	@tools/build.sh
	@python3 tests/bench/bench.py

fuzz: ## Fuzz each parser for FUZZ_SECONDS (30)
	@tools/deps.sh test
	@python3 tools/run_tests.py fuzz

deps: ## Install the Debian packages for all of the above
	@tools/deps.sh test

kernel: ## Build the enclave's kernel from Debian's source: build/image/bzImage
	@image/build-kernel.sh $(BUILD)/image

image: build kernel ## Build the enclave image, build/tmkms.eif, and print its registers
	@$(BUILD)/src/cli/tmkms nitro build-enclave --output-file $(BUILD)/tmkms.eif

install: build ## Install under PREFIX (/usr/local); DESTDIR is respected
	@meson install -C $(BUILD) --no-rebuild

clean: ## Remove what was built here
	@rm -rf $(BUILD) build-asan build-fuzz

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile | awk -F': ' '{printf "make %-8s %s\n", $$1, $$2}'
