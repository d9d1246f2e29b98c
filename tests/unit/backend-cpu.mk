backend_cpu_tests = tests/unit/test-backend-cpu tests/unit/test-backend-cpu-rows tests/unit/test-backend-cpu-expanded \
	tests/unit/test-backend-cpu-vectors tests/unit/test-team tests/unit/test-tiles tests/unit/test-attention
if HAVE_CMOCKA
check_PROGRAMS += $(backend_cpu_tests)
TESTS += $(backend_cpu_tests)
endif
backend_cpu_test_cppflags = $(plugin_cppflags) -I$(top_srcdir) $(CMOCKA_CFLAGS)
backend_cpu_test_ldadd = $(backend_cpu_libraries) $(OPENBLAS_LIBS) $(CMOCKA_LIBS)

tests_unit_test_backend_cpu_SOURCES = tests/unit/test-backend-cpu.c tests/unit/backend-cpu.h tests/unit/each-isa.h \
	tests/unit/random-blocks.h
tests_unit_test_backend_cpu_CPPFLAGS = $(backend_cpu_test_cppflags)
tests_unit_test_backend_cpu_LDADD = $(backend_cpu_test_ldadd)
tests_unit_test_backend_cpu_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign
tests_unit_test_backend_cpu_expanded_SOURCES = tests/unit/test-backend-cpu-expanded.c tests/unit/backend-cpu.h \
	tests/unit/random-blocks.h
tests_unit_test_backend_cpu_expanded_CPPFLAGS = $(backend_cpu_test_cppflags)
tests_unit_test_backend_cpu_expanded_LDADD = $(backend_cpu_test_ldadd)
tests_unit_test_backend_cpu_rows_SOURCES = tests/unit/test-backend-cpu-rows.c tests/unit/backend-cpu.h
tests_unit_test_backend_cpu_rows_CPPFLAGS = $(backend_cpu_test_cppflags)
tests_unit_test_backend_cpu_rows_LDADD = $(backend_cpu_test_ldadd)
tests_unit_test_backend_cpu_vectors_SOURCES = \
	tests/unit/test-backend-cpu-vectors.c plugins/backend-cpu/plugin.c
tests_unit_test_backend_cpu_vectors_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir) $(JANSSON_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_backend_cpu_vectors_LDADD = lib/libdsplugins.a lib/libds.a $(JANSSON_LIBS) $(backend_cpu_test_ldadd)
tests_unit_test_tiles_SOURCES = tests/unit/test-tiles.c tests/unit/each-isa.h tests/unit/random-blocks.h
tests_unit_test_tiles_CPPFLAGS = $(backend_cpu_test_cppflags)
tests_unit_test_tiles_LDADD = $(backend_cpu_test_ldadd)
tests_unit_test_team_SOURCES = tests/unit/test-team.c
tests_unit_test_team_CPPFLAGS = $(backend_cpu_test_cppflags)
tests_unit_test_team_LDADD = $(backend_cpu_test_ldadd)
tests_unit_test_attention_SOURCES = tests/unit/test-attention.c
tests_unit_test_attention_CPPFLAGS = $(backend_cpu_test_cppflags)
tests_unit_test_attention_LDADD = $(backend_cpu_test_ldadd)
