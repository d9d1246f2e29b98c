client_tests = tests/unit/test-bench tests/unit/test-options tests/unit/test-sse tests/unit/test-vectors
if HAVE_CMOCKA
check_PROGRAMS += $(client_tests)
TESTS += $(client_tests)
endif
client_test_cppflags = $(AM_CPPFLAGS) -I$(top_srcdir) $(JANSSON_CFLAGS) $(CMOCKA_CFLAGS)
client_test_ldadd = client/libdsctl.a lib/libds.a $(JANSSON_LIBS) $(CMOCKA_LIBS)

tests_unit_test_bench_SOURCES = tests/unit/test-bench.c
tests_unit_test_bench_CPPFLAGS = $(client_test_cppflags)
tests_unit_test_bench_LDADD = $(client_test_ldadd) -lm
tests_unit_test_options_SOURCES = tests/unit/test-options.c
tests_unit_test_options_CPPFLAGS = $(client_test_cppflags)
tests_unit_test_options_LDADD = $(client_test_ldadd)
tests_unit_test_sse_SOURCES = tests/unit/test-sse.c
tests_unit_test_sse_CPPFLAGS = $(client_test_cppflags)
tests_unit_test_sse_LDADD = $(client_test_ldadd)
tests_unit_test_vectors_SOURCES = tests/unit/test-vectors.c
tests_unit_test_vectors_CPPFLAGS = $(client_test_cppflags)
tests_unit_test_vectors_LDADD = $(client_test_ldadd)
