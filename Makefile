# axon: the front door. `make help` prints what there is; README.md says what each thing needs and why.
#
# Variables   CC CFLAGS LDFLAGS AR PKG_CONFIG PYTHON  as everywhere
#             SAN=address,undefined or SAN=thread     build and test with gcc's sanitizers
#             CROSS=aarch64-linux-gnu-                the prefix of the tools for another machine
#             BUILD=  PREFIX=/usr/local  DESTDIR=  BENCH=policy  FUZZ_SECONDS=20
MAKEFLAGS  += --no-print-directory --no-builtin-rules
SAN        ?=
CROSS      ?=
comma      := ,
BUILD      ?= build/c$(CROSS:%-=-%)$(if $(SAN),-$(subst $(comma),-,$(SAN)))
PREFIX     ?= /usr/local
PYTHON     ?= python3
PKG_CONFIG ?= $(CROSS)pkg-config
CFLAGS     ?= -O2 -g
ifeq ($(origin CC),default)
CC := $(if $(CROSS),$(CROSS)gcc,cc)
endif
ifeq ($(origin AR),default)
AR := $(CROSS)ar
endif

VERSION  := $(shell sed -n 's/^.define AXON_VERSION_[A-Z]* //p' include/axon/api.h | paste -sd.)
SONAME   := libaxon.so.$(firstword $(subst ., ,$(VERSION)))
MSGPACK  := $(shell for n in msgpack-c msgpack; do $(PKG_CONFIG) --exists $$n 2>&1 && echo $$n && break; done)
PACKAGES := libcurl libcjson $(or $(MSGPACK),msgpack) libwebsockets openssl libisal libjpeg libpng
LIBS     := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>&1) -pthread -lm
FLAGS    := -std=c17 -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread -Iinclude -Icsrc \
	-Wall -Wextra -Wpedantic -Wshadow -Wconversion $(CFLAGS) \
	$(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer) \
	$(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>&1)
COMPILE   = $(CC) $(FLAGS) -MMD -MP -MF $@.d -MT $@
LINK     := $(CC) $(FLAGS) $(LDFLAGS)
SETTINGS := $(LINK) $(LIBS) $(AR) $(PREFIX)

OBJECTS := $(patsubst csrc/%.c,$(BUILD)/%.o,$(wildcard csrc/*.c csrc/services/*.c))
TOOLS   := $(patsubst csrc/tools/%.c,$(BUILD)/bin/%,$(wildcard csrc/tools/*.c))
TESTS   := $(patsubst tests/c/%.c,$(BUILD)/tests/%,$(wildcard tests/c/test_*.c))

PY      := .venv/bin/python
NATIVE  := $(if $(SAN),$(BUILD)/python)
PYTEST  := $(if $(SAN),LD_PRELOAD=$(shell $(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0) \
	PYTHONPATH=$(if $(SAN),$(CURDIR)/$(BUILD)/python:)$(CURDIR) .venv/bin/pytest

.PHONY: lib demo test test-c test-python bench check fuzz wheel install setup native clean help FORCE
.DELETE_ON_ERROR:

lib: $(BUILD)/libaxon.a $(BUILD)/libaxon.so $(BUILD)/axon.pc $(TOOLS) ## the C library, static and shared, and the axon command

$(BUILD)/%.o: csrc/%.c $(BUILD)/settings
	@mkdir -p $(@D)
	$(COMPILE) -c -o $@ $<

$(BUILD)/libaxon.a: $(OBJECTS)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/libaxon.so: $(OBJECTS)
	$(LINK) -shared -Wl,-soname,$(SONAME) -o $@ $^ $(LIBS)

$(BUILD)/axon.pc: csrc/axon.pc.in $(BUILD)/settings include/axon/api.h
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(LIBS)|' $< > $@

$(TOOLS): $(BUILD)/bin/%: csrc/tools/%.c $(BUILD)/libaxon.a
	@mkdir -p $(@D)
	$(COMPILE) $(LDFLAGS) -o $@ $< $(BUILD)/libaxon.a $(LIBS)

$(TESTS): $(BUILD)/tests/%: tests/c/%.c $(BUILD)/libaxon.a
	@mkdir -p $(@D)
	$(COMPILE) -Itests $(LDFLAGS) -o $@ $< $(BUILD)/libaxon.a $(LIBS) -lcmocka

# Touched only when compiler or flags change, and then everything is built again.
$(BUILD)/settings: FORCE
	@$(PKG_CONFIG) --exists --print-errors $(PACKAGES) || { echo 'Libraries are missing: see README.md'; exit 1; }
	@mkdir -p $(@D)
	@printf '%s\n' '$(SETTINGS)' | cmp -s - $@ || printf '%s\n' '$(SETTINGS)' > $@

demo: ## photographs and observations through backends on this machine, from inside a sandbox
	@tools/setup.sh build
	@$(MAKE) native
	@PYTHONPATH=. $(PY) -m service_clients.demo

test: ## all tests: C, then Python; SAN= runs them in sanitised code
	@tools/setup.sh develop
	@$(MAKE) test-c
	@$(if $(findstring thread,$(SAN)),,$(MAKE) test-python)

check: ## what must hold of every source file, with warnings as errors
	@tools/setup.sh develop

test-c: $(TESTS) ## the C tests alone
	@failed=; for t in $(TESTS); do echo "== $$t"; timeout 300 $$t || failed=1; done; test -z "$$failed"

install: lib ## headers, libraries, axon.pc and the axon command into PREFIX, below DESTDIR
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include/axon/services
	install -m 644 include/axon/*.h $(DESTDIR)$(PREFIX)/include/axon
	install -m 644 include/axon/services/*.h $(DESTDIR)$(PREFIX)/include/axon/services
	install -m 644 $(BUILD)/libaxon.a $(DESTDIR)$(PREFIX)/lib
	install -m 755 $(BUILD)/libaxon.so $(DESTDIR)$(PREFIX)/lib/libaxon.so.$(VERSION)
	ln -sf libaxon.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libaxon.so
	install -m 644 $(BUILD)/axon.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 755 $(TOOLS) $(DESTDIR)$(PREFIX)/bin

clean: ## everything that was built; the virtual environments stay
	rm -rf build dist

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r n t; do printf '%-10s %s\n' "$$n" "$$t"; done

-include $(OBJECTS:=.d) $(TOOLS:=.d) $(TESTS:=.d)
