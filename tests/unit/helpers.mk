helper_tests = tests/unit/test-builder tests/unit/test-builder-refusals tests/unit/test-gguf-writer \
	tests/unit/test-loader tests/unit/test-loader-messages tests/unit/test-quantize
if HAVE_CMOCKA
check_PROGRAMS += $(helper_tests)
TESTS += $(helper_tests)
endif

builder_test_cppflags = $(lib_test_cppflags) -I$(top_srcdir)/helpers
builder_test_ldadd = helpers/libloader.a lib/libdsplugins.a lib/libds.a $(JANSSON_LIBS) $(CMOCKA_LIBS)
tests_unit_test_builder_SOURCES = tests/unit/test-builder.c tests/unit/builder-scene.h
tests_unit_test_builder_CPPFLAGS = $(builder_test_cppflags)
tests_unit_test_builder_LDADD = $(builder_test_ldadd)
tests_unit_test_builder_refusals_SOURCES = tests/unit/test-builder-refusals.c tests/unit/builder-scene.h
tests_unit_test_builder_refusals_CPPFLAGS = $(builder_test_cppflags)
tests_unit_test_builder_refusals_LDADD = $(builder_test_ldadd)
# Runs the real ds-loader with the real plugins, all of this build.
tests_unit_test_loader_SOURCES = tests/unit/test-loader.c tests/unit/loader-broker.h
tests_unit_test_loader_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_loader_LDADD = lib/libds.a $(JANSSON_LIBS) $(CMOCKA_LIBS)
tests_unit_test_loader_messages_SOURCES = tests/unit/test-loader-messages.c tests/unit/loader-broker.h
tests_unit_test_loader_messages_CPPFLAGS = $(lib_test_cppflags)
tests_unit_test_loader_messages_LDADD = lib/libds.a $(JANSSON_LIBS) $(CMOCKA_LIBS)
tests_unit_test_quantize_SOURCES = tests/unit/test-quantize.c
tests_unit_test_quantize_CPPFLAGS = $(lib_test_cppflags) -I$(top_srcdir)/helpers
tests_unit_test_quantize_LDADD = helpers/libloader.a lib/libds.a $(JANSSON_LIBS) $(CMOCKA_LIBS)
tests_unit_test_gguf_writer_SOURCES = tests/unit/test-gguf-writer.c tests/bench/synth-presets.c
tests_unit_test_gguf_writer_CPPFLAGS = $(lib_test_cppflags) -I$(top_srcdir)/helpers -I$(top_srcdir)/tests
tests_unit_test_gguf_writer_CFLAGS = $(AM_CFLAGS) -Wno-override-init
tests_unit_test_gguf_writer_LDADD = helpers/libloader.a lib/libds.a $(JANSSON_LIBS) $(CMOCKA_LIBS)
