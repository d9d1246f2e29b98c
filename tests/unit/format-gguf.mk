format_gguf_libs = plugins/format-gguf/libformat-gguf.a plugins/format-common/libformat-common.a

# Whole models, made and compared by a script.
check_PROGRAMS += tests/unit/make-image
tests_unit_make_image_SOURCES = tests/unit/make-image.c
tests_unit_make_image_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/lib -I$(top_srcdir)/helpers $(JANSSON_CFLAGS)
tests_unit_make_image_LDADD = helpers/libloader.a plugins/format-safetensors/libformat-safetensors.a $(format_gguf_libs) \
	lib/libdsplugins.a lib/libds.a $(JANSSON_LIBS) -lm
TESTS += tests/unit/gguf-images.py
EXTRA_DIST += tests/unit/gguf-images.py tests/gguf_writer.py
