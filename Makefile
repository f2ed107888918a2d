# axon: the front door. `make help` prints the targets; README.md says what they need and why.
#
# CC CFLAGS LDFLAGS AR PKG_CONFIG PYTHON PREFIX DESTDIR  as everywhere
# SAN=address,undefined or SAN=thread                    build and test under gcc's sanitizers
# CROSS=aarch64-linux-gnu-                               the prefix of another machine's tools
# Q=                                                     show the commands
MAKEFLAGS  += --no-print-directory --no-builtin-rules
comma      := ,
BUILD      ?= build/c$(CROSS:%-=-%)$(if $(SAN),-$(subst $(comma),-,$(SAN)))
PREFIX     ?= /usr/local
PKG_CONFIG ?= $(CROSS)pkg-config
CFLAGS     ?= -O2 -g
CC         := $(if $(filter default,$(origin CC)),$(if $(CROSS),$(CROSS)gcc,cc),$(CC))
AR         := $(if $(filter default,$(origin AR)),$(CROSS)ar,$(AR))
BENCH      ?= policy
FUZZ_SECONDS ?= 20
Q          ?= @

VERSION  := $(shell sed -n 's/^.define AXON_VERSION_[A-Z]* //p' include/axon/api.h | paste -sd.)
PLACE    := $(DESTDIR)$(PREFIX)
SONAME   := libaxon.so.$(firstword $(subst ., ,$(VERSION)))
MSGPACK  := $(shell for n in msgpack-c msgpack; do $(PKG_CONFIG) --exists $$n 2>&1 && echo $$n && break; done)
PACKAGES := libcurl $(or $(MSGPACK),msgpack) libwebsockets openssl libisal libjpeg libpng
LIBS     := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>&1) -pthread -lm
FLAGS    := -std=c17 -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread -Iinclude -Icsrc \
	-Wall -Wextra -Wpedantic -Wshadow -Wconversion $(CFLAGS) \
	$(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer) \
	$(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>&1)
COMPILE   = $(CC) $(FLAGS) -MMD -MP -MF $@.d -MT $@
SETTINGS := $(CC) $(FLAGS) $(LDFLAGS) $(LIBS) $(AR)

OBJECTS := $(patsubst csrc/%.c,$(BUILD)/%.o,$(wildcard csrc/*.c csrc/services/*.c))
TOOLS   := $(patsubst csrc/tools/%.c,$(BUILD)/bin/%,$(wildcard csrc/tools/*.c))
TESTS   := $(patsubst tests/c/%.c,$(BUILD)/tests/%,$(wildcard tests/c/test_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
BENCHED := $(addprefix $(BUILD)/bench/,sink http_sink floor axon_client chunk_next ticks)
EXAMPLES := $(patsubst examples/c/%.c,$(BUILD)/examples/%,$(wildcard examples/c/*.c))
ECHOES  := $(patsubst tests/autobahn/%.c,$(BUILD)/autobahn/%,$(wildcard tests/autobahn/*.c))

# The binding lies beside its Python sources; a sanitised one in $(BUILD), with links to them around it.
PY      := .venv/bin/python
NATIVE  := $(if $(SAN),$(BUILD)/python/)service_clients/_axon/_native.abi3.so
# Python itself is not sanitised, and frees little at its end. Without libstdc++ libasan ends it when OpenCV throws.
# The safe path (Python 3.11) keeps the checkout, where the working directory is, from coming before $(BUILD)/python.
SANITISED = PYTHONSAFEPATH=1 ASAN_OPTIONS=detect_leaks=0 \
	PYTHONPATH=$(CURDIR)/$(BUILD)/python:$(CURDIR)/tools:$(CURDIR)/tests/python/peers \
	LD_PRELOAD="$(foreach l,libasan libstdc++,$(shell $(CC) -print-file-name=$(l).so))"
LINTED  := $(wildcard service_clients tools tests benchmarks setup.py)

.PHONY: lib demo test test-c test-python native bench autobahn echoes examples fuzz fuzzers generate check lint-catalog compiled wheel install clean help FORCE
.DELETE_ON_ERROR:

lib: $(BUILD)/libaxon.a $(BUILD)/libaxon.so $(BUILD)/axon.pc $(TOOLS) ## the C library, static and shared, and the axon command

$(BUILD)/%.o: csrc/%.c $(BUILD)/settings
	@mkdir -p $(@D) && echo '  $@'
	$(Q)$(COMPILE) -c -o $@ $<

$(BUILD)/libaxon.a: $(OBJECTS)
	@rm -f $@ && echo '  $@'
	$(Q)$(AR) rcs $@ $^

$(BUILD)/libaxon.so: $(OBJECTS)
	@echo '  $@'
	$(Q)$(CC) $(FLAGS) $(LDFLAGS) -shared -Wl,-soname,$(SONAME) -o $@ $^ $(LIBS)

$(BUILD)/axon.pc: csrc/axon.pc.in $(BUILD)/settings FORCE
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(LIBS)|' $< > $@

$(TOOLS):   $(BUILD)/bin/%:   csrc/tools/%.c
$(TESTS):   $(BUILD)/tests/%: tests/c/%.c
$(FUZZERS): $(BUILD)/fuzz/%:  tests/fuzz/%.c
$(BENCHED): $(BUILD)/bench/%: benchmarks/%.c
$(ECHOES):  $(BUILD)/autobahn/%: tests/autobahn/%.c
$(EXAMPLES): $(BUILD)/examples/%: examples/c/%.c
$(TESTS):   private LIBS += -lcmocka
$(FUZZERS): private LIBS += -fsanitize=fuzzer
$(BUILD)/bench/floor $(BUILD)/bench/axon_client: benchmarks/contender.c
$(BUILD)/bench/sink $(BUILD)/bench/http_sink: benchmarks/sinks.c
# In these, allocations fail on purpose: tests/c/failing_malloc.h.
$(filter %_memory,$(TESTS)): private LDFLAGS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
$(TOOLS) $(TESTS) $(FUZZERS) $(BENCHED) $(ECHOES) $(EXAMPLES): $(BUILD)/libaxon.a
	@mkdir -p $(@D) && echo '  $@'
	$(Q)$(COMPILE) -Itests $(LDFLAGS) -o $@ $(firstword $(filter %.c,$^)) $(filter benchmarks/contender.c benchmarks/sinks.c,$^) $< $(LIBS)

# Written only when compiler or flags change, and then everything is built again.
$(BUILD)/settings: FORCE
	@$(PKG_CONFIG) --exists --print-errors $(PACKAGES) || { echo 'Libraries are missing: see README.md' >&2; exit 1; }
	@mkdir -p $(@D)
	@printf '%s\n' '$(SETTINGS)' | cmp -s - $@ || printf '%s\n' '$(SETTINGS)' > $@

demo: ## a robot's whole day on this machine: camera, detector, policy, simulator and streams, from inside a sandbox
	@tools/setup.sh build
	@$(MAKE) native
	@$(PY) -m service_clients.demo

test: ## all tests, C and Python; SAN= runs them in sanitised code
	@tools/setup.sh develop
	@$(MAKE) test-c
	@$(if $(findstring thread,$(SAN)),,$(MAKE) test-python)

test-c: $(TESTS) ## the C tests alone; each leaves its full output beside it, in a .log
	@failed=; for t in $(TESTS); do echo "== $$t"; \
		if timeout 300 $$t >$$t.log 2>&1 && ! grep SKIPPED $$t.log; then grep PASSED $$t.log; else cat $$t.log; failed=1; fi; \
	done; test -z "$$failed"

test-python: lib native examples
	@BUILD=$(BUILD) $(if $(SAN),$(SANITISED)) .venv/bin/pytest -q \
		$(if $(SAN),--ignore=tests/python/test_checks.py --ignore=tests/python/test_install.py --ignore=tests/python/test_bench.py --ignore=tests/python/test_server_docs.py)

native: $(NATIVE)

$(NATIVE): $(BUILD)/libaxon.a $(wildcard setup.py service_clients/_axon/*.py include/axon/*.h include/axon/*/*.h) .venv/ready
	@echo '  $@'
	$(Q)AXON_ARCHIVE=$(BUILD)/libaxon.a SAN=$(SAN) CC='$(CC)' CFLAGS='$(CFLAGS)' PKG_CONFIG='$(PKG_CONFIG)' $(PY) setup.py -q \
		build_ext $(if $(SAN),--build-lib $(BUILD)/python,--inplace) --force --build-temp $(BUILD)/native
	@$(if $(SAN),ln -sf $(CURDIR)/service_clients/_axon/*.py $(@D))
	@touch $@

bench: ## axon beside its peers, in one run: BENCH=policy, server, http, pictures, tabletop, control, resize, streams
	@tools/setup.sh develop
	@$(MAKE) native
	@$(PY) -m benchmarks.$(BENCH)

autobahn: ## the Autobahn test suite against our WebSocket code; it needs a Python 2.7 (PYTHON2=)
	@tools/setup.sh autobahn
	@$(MAKE) echoes
	@$(PY) tests/autobahn/run.py $(BUILD)

echoes: $(ECHOES)

examples: $(EXAMPLES) ## the programs in examples/c, under build/c/examples

fuzz: ## hostile bytes for the decoders, FUZZ_SECONDS=20 each
	@tools/setup.sh develop
	@$(MAKE) fuzzers CC=clang SAN=address,undefined,fuzzer-no-link BUILD=build/fuzz

fuzzers: $(FUZZERS)
	@set -e; for f in $(FUZZERS); do corpus=$(BUILD)/corpus/$${f##*/}; mkdir -p $$corpus; \
		$$f -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=$(BUILD)/ $$corpus $$(ls -d tests/fuzz/corpus/$${f##*/} 2>/dev/null); done

generate: ## catalog.json and the clients, from the headers of the services
	@tools/setup.sh build
	$(PY) tools/generate.py

check: ## what must hold of every source file, with warnings as errors
	@tools/setup.sh develop
	@$(MAKE) compiled BUILD=build/check-gcc CC=gcc CFLAGS='-O2 -Werror'
	@$(MAKE) compiled BUILD=build/check-clang CC=clang CFLAGS='-O2 -Werror'
	clang-format --dry-run -Werror $$(git ls-files -co --exclude-standard '*.[ch]')
	$(PY) tools/check.py build/check-gcc
	$(PY) tools/generate.py --check
	$(PY) tools/lint_catalog.py catalog.json --clients service_clients
	$(PY) -m ruff check -q $(LINTED)
	$(PY) -m mypy --strict $(LINTED)
	.venv/bin/vermin -q -t=3.8- --no-tips --violations $(LINTED)
	shellcheck .ci/run $(wildcard *.sh tools/*.sh benchmarks/*.sh)

lint-catalog: ## what is wrong with a catalog: FILE=catalog.json, OPTIONS='--online --clients DIR'
	@$(or $(PYTHON),python3) tools/lint_catalog.py $(or $(FILE),catalog.json) $(OPTIONS)

compiled: lib $(TESTS) $(BENCHED) $(ECHOES) examples

wheel: ## dist/axon-*.whl, for every Python from 3.8 on
	@tools/setup.sh build
	$(PY) -m pip wheel -q --no-deps --no-build-isolation -w dist .

install: lib ## headers, libraries, axon.pc and the axon command, into PREFIX below DESTDIR
	install -m 644 -Dt $(PLACE)/include/axon include/axon/*.h
	install -m 644 -Dt $(PLACE)/include/axon/services include/axon/services/*.h
	install -m 644 -Dt $(PLACE)/lib/pkgconfig $(BUILD)/axon.pc
	install -m 644 -Dt $(PLACE)/lib $(BUILD)/libaxon.a
	install -m 755 $(BUILD)/libaxon.so $(PLACE)/lib/libaxon.so.$(VERSION)
	ln -sf libaxon.so.$(VERSION) $(PLACE)/lib/$(SONAME)
	ln -sf $(SONAME) $(PLACE)/lib/libaxon.so
	install -m 755 -Dt $(PLACE)/bin $(TOOLS)

clean: ## removes what was built; the virtual environments stay
	rm -rf build dist *.egg-info service_clients/_axon/_native.abi3.so

help: ## prints this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-10s %s\n' "$$name" "$$text"; done

-include $(OBJECTS:=.d) $(TOOLS:=.d) $(TESTS:=.d) $(FUZZERS:=.d) $(BENCHED:=.d) $(ECHOES:=.d) $(EXAMPLES:=.d)
