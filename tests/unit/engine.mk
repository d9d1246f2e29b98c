# Tests of ds-engine's parts. Those that compute link the CPU backend as the plugin has it.
engine_tests = \
	tests/unit/test-arch tests/unit/test-mla tests/unit/test-kv tests/unit/test-outbox tests/unit/test-prompt tests/unit/test-rope \
	tests/unit/test-schedule \
	tests/unit/test-steps tests/unit/test-stops tests/unit/test-work
if HAVE_CMOCKA
check_PROGRAMS += $(engine_tests)
TESTS += $(engine_tests)
endif
engine_test_cppflags = $(engine_cppflags) -I$(top_srcdir) $(CMOCKA_CFLAGS)
engine_test_ldadd = $(engine_libraries) $(JANSSON_LIBS) $(CMOCKA_LIBS)

tests_unit_test_mla_SOURCES = tests/unit/test-mla.c tests/unit/engine-image.h
tests_unit_test_mla_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_mla_LDADD = $(engine_test_ldadd) $(backend_cpu_libraries) $(OPENBLAS_LIBS)
tests_unit_test_arch_SOURCES = tests/unit/test-arch.c tests/unit/engine-image.h
tests_unit_test_arch_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_arch_LDADD = $(engine_test_ldadd) $(backend_cpu_libraries) $(OPENBLAS_LIBS)
tests_unit_test_kv_SOURCES = tests/unit/test-kv.c
tests_unit_test_kv_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_kv_LDADD = $(engine_test_ldadd)
tests_unit_test_outbox_SOURCES = tests/unit/test-outbox.c
tests_unit_test_outbox_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_outbox_LDADD = $(engine_test_ldadd)
tests_unit_test_prompt_SOURCES = tests/unit/test-prompt.c tests/unit/engine-words.h
tests_unit_test_prompt_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_prompt_LDADD = $(engine_test_ldadd)
tests_unit_test_rope_SOURCES = tests/unit/test-rope.c
tests_unit_test_rope_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_rope_LDADD = $(engine_test_ldadd)
tests_unit_test_schedule_SOURCES = tests/unit/test-schedule.c
tests_unit_test_schedule_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_schedule_LDADD = $(engine_test_ldadd)
# Counts what is allocated: the linker sends the program's own calls through the test.
tests_unit_test_steps_SOURCES = tests/unit/test-steps.c tests/unit/engine-image.h tests/unit/engine-words.h
tests_unit_test_steps_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_steps_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
tests_unit_test_steps_LDADD = $(engine_test_ldadd) $(backend_cpu_libraries) $(OPENBLAS_LIBS)
tests_unit_test_stops_SOURCES = tests/unit/test-stops.c
tests_unit_test_stops_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_stops_LDADD = $(engine_test_ldadd)
tests_unit_test_work_SOURCES = tests/unit/test-work.c tests/unit/engine-image.h
tests_unit_test_work_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_work_LDADD = $(engine_test_ldadd) $(backend_cpu_libraries) $(OPENBLAS_LIBS)
