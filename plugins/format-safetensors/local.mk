# Everything but the plugin's symbol is in a library, so that tests and fuzz targets can link it.
noinst_LIBRARIES += plugins/format-safetensors/libformat-safetensors.a
plugins_format_safetensors_libformat_safetensors_a_SOURCES = \
	plugins/format-safetensors/checkpoint.c plugins/format-safetensors/checkpoint.h \
	plugins/format-safetensors/config.c \
	plugins/format-safetensors/header.c \
	plugins/format-safetensors/json.c \
	plugins/format-safetensors/rope.c \
	plugins/format-safetensors/routing.c \
	plugins/format-safetensors/scales.c \
	plugins/format-safetensors/shards.c \
	plugins/format-safetensors/special.c \
	plugins/format-safetensors/split.c \
	plugins/format-safetensors/tensors.c \
	plugins/format-safetensors/template.c \
	plugins/format-safetensors/tokenizer.c
plugins_format_safetensors_libformat_safetensors_a_CPPFLAGS = $(plugin_cppflags) $(JANSSON_CFLAGS)
plugins_format_safetensors_libformat_safetensors_a_CFLAGS = $(plugin_cflags)

plugin_PROGRAMS += format-safetensors.so
format_safetensors_so_SOURCES = plugins/format-safetensors/plugin.c
format_safetensors_so_CPPFLAGS = $(plugin_cppflags) $(JANSSON_CFLAGS)
format_safetensors_so_CFLAGS = $(plugin_cflags)
format_safetensors_so_LDFLAGS = $(plugin_ldflags)
format_safetensors_so_LDADD = plugins/format-safetensors/libformat-safetensors.a \
	plugins/format-common/libformat-common.a $(JANSSON_LIBS) -lm
