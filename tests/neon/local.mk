# The kernels of 64-bit ARM, where this machine is another one: built with a cross compiler if there is one, with their tests
# and nothing but the C library, and run in an emulator by tests/neon/emulated.sh. `make check-neon` does only that.
EXTRA_DIST += tests/neon/emulated.sh

if !AARCH64
TESTS += tests/neon/emulated.sh
check_DATA += build-neon

AARCH64_CC = aarch64-linux-gnu-gcc
neon_sources = $(backend_cpu_kernels) $(backend_cpu_neon) $(backend_cpu_dotprod) $(kernel_tests)
neon_objects = $(patsubst %.c,tests/neon/%.o,$(filter %.c,$(neon_sources)))
neon_flags = -std=gnu11 -O2 -ffp-contract=off $(WARN_CFLAGS) -D_GNU_SOURCE -I$(top_srcdir)/include -I$(top_srcdir)

tests/neon/%.o: %.c
	@$(MKDIR_P) $(@D)
	$(AM_V_CC)$(AARCH64_CC) $(neon_flags) $(neon_isa_cflags) -MMD -MP -c -o $@ $<

$(backend_cpu_dotprod:%.c=tests/neon/%.o): neon_isa_cflags = $(dotprod_cflags)

-include $(neon_objects:.o=.d)

# Static: the emulator needs no libraries of that machine then.
tests/neon/kernels: $(neon_objects)
	$(AM_V_CCLD)$(AARCH64_CC) -static -o $@ $(neon_objects) -lm

build-neon:
	@if command -v $(AARCH64_CC) >/dev/null; then $(MAKE) $(AM_MAKEFLAGS) tests/neon/kernels; fi

check-neon: build-neon
	$(top_srcdir)/tests/neon/emulated.sh

.PHONY: build-neon check-neon
CLEANFILES += tests/neon/kernels $(neon_objects) $(neon_objects:.o=.d)
endif
