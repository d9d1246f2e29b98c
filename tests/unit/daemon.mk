daemon_tests = tests/unit/test-access tests/unit/test-body tests/unit/test-budget tests/unit/test-config \
	tests/unit/test-counters tests/unit/test-groups tests/unit/test-pressure
if HAVE_CMOCKA
check_PROGRAMS += $(daemon_tests)
TESTS += $(daemon_tests)
endif

tests_unit_test_access_SOURCES = tests/unit/test-access.c
tests_unit_test_access_CPPFLAGS = $(daemon_cppflags) $(CMOCKA_CFLAGS) -DPOLICY_FILE='"$(srcdir)/etc/org.deepseekd1.policy"'
tests_unit_test_access_LDADD = $(daemon_libs) $(CMOCKA_LIBS)

tests_unit_test_body_SOURCES = tests/unit/test-body.c
tests_unit_test_body_CPPFLAGS = $(daemon_cppflags) $(CMOCKA_CFLAGS)
tests_unit_test_body_LDADD = $(daemon_libs) $(CMOCKA_LIBS)

tests_unit_test_config_SOURCES = tests/unit/test-config.c
tests_unit_test_config_CPPFLAGS = $(daemon_cppflags) $(CMOCKA_CFLAGS) -DVENDOR_FILE='"$(srcdir)/etc/deepseekd.yaml"'
tests_unit_test_config_LDADD = $(daemon_libs) $(CMOCKA_LIBS)

tests_unit_test_budget_SOURCES = tests/unit/test-budget.c
tests_unit_test_budget_CPPFLAGS = $(daemon_cppflags) $(CMOCKA_CFLAGS)
tests_unit_test_budget_LDADD = $(daemon_libs) $(CMOCKA_LIBS)
tests_unit_test_pressure_SOURCES = tests/unit/test-pressure.c
tests_unit_test_pressure_CPPFLAGS = $(daemon_cppflags) $(CMOCKA_CFLAGS)
tests_unit_test_pressure_LDADD = $(daemon_libs) $(CMOCKA_LIBS)
tests_unit_test_groups_SOURCES = tests/unit/test-groups.c
tests_unit_test_groups_CPPFLAGS = $(daemon_cppflags) $(CMOCKA_CFLAGS)
tests_unit_test_groups_LDADD = $(daemon_libs) $(CMOCKA_LIBS)

tests_unit_test_counters_SOURCES = tests/unit/test-counters.c
tests_unit_test_counters_CPPFLAGS = $(daemon_cppflags) $(CMOCKA_CFLAGS)
tests_unit_test_counters_LDADD = $(daemon_libs) $(CMOCKA_LIBS)
