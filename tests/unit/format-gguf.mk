format_gguf_tests = tests/unit/test-gguf-header tests/unit/test-gguf-model tests/unit/test-gguf-tokenizer
if HAVE_CMOCKA
check_PROGRAMS += $(format_gguf_tests)
TESTS += $(format_gguf_tests)
endif
format_gguf_test_cppflags = $(AM_CPPFLAGS) -I$(top_srcdir) -I$(top_srcdir)/plugins/format-gguf $(JANSSON_CFLAGS) \
	$(CMOCKA_CFLAGS)
format_gguf_libs = plugins/format-gguf/libformat-gguf.a plugins/format-common/libformat-common.a

tests_unit_test_gguf_header_SOURCES = \
	tests/unit/test-gguf-header.c tests/unit/small-gguf.h plugins/format-gguf/plugin.c
tests_unit_test_gguf_header_CPPFLAGS = $(format_gguf_test_cppflags)
tests_unit_test_gguf_header_LDADD = $(format_gguf_libs) lib/libdsplugins.a $(JANSSON_LIBS) $(CMOCKA_LIBS) -lm
tests_unit_test_gguf_model_SOURCES = tests/unit/test-gguf-model.c tests/unit/small-gguf.h
tests_unit_test_gguf_model_CPPFLAGS = $(format_gguf_test_cppflags)
tests_unit_test_gguf_model_LDADD = $(format_gguf_libs) $(CMOCKA_LIBS) -lm
tests_unit_test_gguf_tokenizer_SOURCES = tests/unit/test-gguf-tokenizer.c tests/unit/small-gguf.h
tests_unit_test_gguf_tokenizer_CPPFLAGS = $(format_gguf_test_cppflags) -I$(top_srcdir)/plugins/tokenizer-bpe
tests_unit_test_gguf_tokenizer_LDADD = $(format_gguf_libs) $(tokenizer_bpe_libs) $(CMOCKA_LIBS) -lm

# Whole models, made and compared by a script.
check_PROGRAMS += tests/unit/make-image
tests_unit_make_image_SOURCES = tests/unit/make-image.c
tests_unit_make_image_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/lib -I$(top_srcdir)/helpers $(JANSSON_CFLAGS)
tests_unit_make_image_LDADD = helpers/libloader.a plugins/format-safetensors/libformat-safetensors.a \
	$(format_gguf_libs) lib/libdsplugins.a lib/libds.a $(JANSSON_LIBS) -lm
TESTS += tests/unit/gguf-images.py
EXTRA_DIST += tests/unit/gguf-images.py tests/gguf_writer.py
