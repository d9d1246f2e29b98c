if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-dialect-deepseek-r1
TESTS += tests/unit/test-dialect-deepseek-r1
endif
tests_unit_test_dialect_deepseek_r1_SOURCES = \
	tests/unit/test-dialect-deepseek-r1.c $(dialect_deepseek_r1_sources)
tests_unit_test_dialect_deepseek_r1_CPPFLAGS = \
	$(plugin_cppflags) -I$(top_srcdir)/plugins/dialect-deepseek-r1 $(CMOCKA_CFLAGS)
tests_unit_test_dialect_deepseek_r1_LDADD = $(CMOCKA_LIBS)
