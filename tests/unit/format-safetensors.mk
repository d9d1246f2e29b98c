format_safetensors_tests = tests/unit/test-format-safetensors tests/unit/test-format-safetensors-config \
	tests/unit/test-format-tokenizer
if HAVE_CMOCKA
check_PROGRAMS += $(format_safetensors_tests)
TESTS += $(format_safetensors_tests)
endif
format_safetensors_test_cppflags = $(AM_CPPFLAGS) -I$(top_srcdir) -I$(top_srcdir)/plugins/format-safetensors \
	$(JANSSON_CFLAGS) $(CMOCKA_CFLAGS)
format_safetensors_test_ldadd = plugins/format-safetensors/libformat-safetensors.a \
	plugins/format-common/libformat-common.a lib/libdsplugins.a \
	$(JANSSON_LIBS) $(CMOCKA_LIBS)

tests_unit_test_format_safetensors_SOURCES = \
	tests/unit/test-format-safetensors.c tests/unit/small-checkpoint.h plugins/format-safetensors/plugin.c
tests_unit_test_format_safetensors_CPPFLAGS = $(format_safetensors_test_cppflags)
tests_unit_test_format_safetensors_LDADD = $(format_safetensors_test_ldadd)
tests_unit_test_format_safetensors_config_SOURCES = \
	tests/unit/test-format-safetensors-config.c tests/unit/small-checkpoint.h
tests_unit_test_format_safetensors_config_CPPFLAGS = $(format_safetensors_test_cppflags)
tests_unit_test_format_safetensors_config_LDADD = $(format_safetensors_test_ldadd)
tests_unit_test_format_tokenizer_SOURCES = tests/unit/test-format-tokenizer.c tests/unit/small-checkpoint.h
tests_unit_test_format_tokenizer_CPPFLAGS = $(format_safetensors_test_cppflags)
tests_unit_test_format_tokenizer_LDADD = $(format_safetensors_test_ldadd)
