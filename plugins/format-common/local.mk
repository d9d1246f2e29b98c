# Not a plugin: what the format plugins link.
noinst_LIBRARIES += plugins/format-common/libformat-common.a
plugins_format_common_libformat_common_a_SOURCES = \
	plugins/format-common/common.h \
	plugins/format-common/alphabet.c \
	plugins/format-common/enders.c \
	plugins/format-common/files.c \
	plugins/format-common/sizes.h \
	plugins/format-common/words.c
plugins_format_common_libformat_common_a_CPPFLAGS = $(plugin_cppflags)
plugins_format_common_libformat_common_a_CFLAGS = $(plugin_cflags)
