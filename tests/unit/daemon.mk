daemon_tests = tests/unit/test-config
if HAVE_CMOCKA
check_PROGRAMS += $(daemon_tests)
TESTS += $(daemon_tests)
endif

tests_unit_test_config_SOURCES = tests/unit/test-config.c
tests_unit_test_config_CPPFLAGS = $(daemon_cppflags) $(CMOCKA_CFLAGS) -DVENDOR_FILE='"$(srcdir)/etc/deepseekd.yaml"'
tests_unit_test_config_LDADD = $(daemon_libs) $(CMOCKA_LIBS)
