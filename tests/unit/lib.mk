lib_tests = tests/unit/test-chat tests/unit/test-event tests/unit/test-files tests/unit/test-image tests/unit/test-known-answers \
	tests/unit/test-message tests/unit/test-plugins tests/unit/test-quants tests/unit/test-sandbox
if HAVE_CMOCKA
check_PROGRAMS += $(lib_tests)
TESTS += $(lib_tests)
endif
lib_test_cppflags = $(AM_CPPFLAGS) -I$(top_srcdir)/lib $(JANSSON_CFLAGS) $(CMOCKA_CFLAGS)

tests_unit_test_chat_SOURCES = tests/unit/test-chat.c
tests_unit_test_chat_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_chat_LDADD = lib/libdsplugins.a $(JANSSON_LIBS) $(CMOCKA_LIBS)
tests_unit_test_event_SOURCES = tests/unit/test-event.c
tests_unit_test_event_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_event_LDADD = lib/libds.a $(CMOCKA_LIBS)
tests_unit_test_files_SOURCES = tests/unit/test-files.c
tests_unit_test_files_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_files_LDADD = lib/libds.a $(CMOCKA_LIBS)
tests_unit_test_image_SOURCES = tests/unit/test-image.c
tests_unit_test_image_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_image_LDADD = lib/libds.a $(CMOCKA_LIBS)
tests_unit_test_message_SOURCES = tests/unit/test-message.c
tests_unit_test_message_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_message_LDADD = lib/libds.a $(CMOCKA_LIBS)
tests_unit_test_plugins_SOURCES = tests/unit/test-plugins.c
tests_unit_test_plugins_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_plugins_LDADD = lib/libdsplugins.a lib/libds.a $(JANSSON_LIBS) $(CMOCKA_LIBS)
tests_unit_test_known_answers_SOURCES = tests/unit/test-known-answers.c
tests_unit_test_known_answers_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_known_answers_LDADD = lib/libdsplugins.a lib/libds.a $(JANSSON_LIBS) $(CMOCKA_LIBS)
tests_unit_test_sandbox_SOURCES = tests/unit/test-sandbox.c
tests_unit_test_sandbox_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_sandbox_LDADD = lib/libds.a $(CMOCKA_LIBS) $(SECCOMP_LIBS)
tests_unit_test_quants_SOURCES = tests/unit/test-quants.c
tests_unit_test_quants_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_quants_LDADD = $(CMOCKA_LIBS) -lm
