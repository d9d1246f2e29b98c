# Everything but the plugin's symbol is in a library, so that tests and fuzz targets can link it.
noinst_LIBRARIES += plugins/format-gguf/libformat-gguf.a
plugins_format_gguf_libformat_gguf_a_SOURCES = \
	plugins/format-gguf/gguf.h \
	plugins/format-gguf/config.c \
	plugins/format-gguf/describe.c \
	plugins/format-gguf/header.c \
	plugins/format-gguf/keys.c \
	plugins/format-gguf/pre.c \
	plugins/format-gguf/rope.c \
	plugins/format-gguf/source.c \
	plugins/format-gguf/splits.c \
	plugins/format-gguf/tensors.c \
	plugins/format-gguf/tokenizer.c \
	plugins/format-gguf/types.c
plugins_format_gguf_libformat_gguf_a_CPPFLAGS = $(plugin_cppflags)
plugins_format_gguf_libformat_gguf_a_CFLAGS = $(plugin_cflags)

plugin_PROGRAMS += format-gguf.so
format_gguf_so_SOURCES = plugins/format-gguf/plugin.c plugins/format-gguf/vectors.h
format_gguf_so_CPPFLAGS = $(plugin_cppflags)
format_gguf_so_CFLAGS = $(plugin_cflags)
format_gguf_so_LDFLAGS = $(plugin_ldflags)
format_gguf_so_LDADD = plugins/format-gguf/libformat-gguf.a plugins/format-common/libformat-common.a -lm
