if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-sampler-core
TESTS += tests/unit/test-sampler-core
endif
tests_unit_test_sampler_core_SOURCES = tests/unit/test-sampler-core.c $(sampler_core_sources)
tests_unit_test_sampler_core_CPPFLAGS = $(plugin_cppflags) -I$(top_srcdir)/plugins/sampler-core $(CMOCKA_CFLAGS)
tests_unit_test_sampler_core_CFLAGS = $(sampler_core_cflags)
tests_unit_test_sampler_core_LDADD = $(CMOCKA_LIBS)
