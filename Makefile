# axon: the front door. A bare `make` builds the library; README.md lists what else there is.
BUILD  ?= build/c
CC     ?= cc
CFLAGS ?= -O2 -g
PKG_CONFIG ?= pkg-config
SAN    ?=

MSGPACK  := $(shell for n in msgpack-c msgpack; do $(PKG_CONFIG) --exists $$n && echo $$n && break; done)
PACKAGES := libcurl libcjson $(MSGPACK) libwebsockets openssl libisal libjpeg libpng
WARN     := -Wall -Wextra -Wpedantic -Wshadow -Wconversion
override CFLAGS += -std=c17 -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread $(WARN) -Iinclude -Icsrc \
	-MMD -MP $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer) \
	$(shell $(PKG_CONFIG) --cflags $(PACKAGES))
LIBS := $(shell $(PKG_CONFIG) --libs $(PACKAGES)) -pthread -lm

OBJECTS := $(patsubst csrc/%.c,$(BUILD)/%.o,$(wildcard csrc/*.c csrc/services/*.c))
TESTS   := $(patsubst tests/c/%.c,$(BUILD)/tests/%,$(wildcard tests/c/test_*.c))

lib: $(BUILD)/libaxon.a

$(BUILD)/libaxon.a: $(OBJECTS)
	$(AR) rcs $@ $^

$(BUILD)/%.o: csrc/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c $< -o $@

$(BUILD)/tests/%: tests/c/%.c $(BUILD)/libaxon.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -Itests -o $@ $< $(BUILD)/libaxon.a $(LIBS) -lcmocka

test-c: $(TESTS)
	@set -e; for t in $(TESTS); do echo "== $$t"; $$t; done

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
