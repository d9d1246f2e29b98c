if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-dialect-deepseek
TESTS += tests/unit/test-dialect-deepseek
endif
tests_unit_test_dialect_deepseek_SOURCES = \
	tests/unit/test-dialect-deepseek.c $(dialect_deepseek_sources)
tests_unit_test_dialect_deepseek_CPPFLAGS = \
	$(plugin_cppflags) -I$(top_srcdir)/plugins/dialect-deepseek $(CMOCKA_CFLAGS)
tests_unit_test_dialect_deepseek_LDADD = $(CMOCKA_LIBS)
