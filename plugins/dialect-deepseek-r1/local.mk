# How DeepSeek-R1 writes a conversation.
dialect_deepseek_r1_sources = \
	plugins/dialect-deepseek-r1/dialect.c \
	plugins/dialect-deepseek-r1/dialect-r1.h \
	plugins/dialect-deepseek-r1/parse.c \
	plugins/dialect-deepseek-r1/render.c

plugin_PROGRAMS += dialect-deepseek-r1.so
dialect_deepseek_r1_so_SOURCES = $(dialect_deepseek_r1_sources)
dialect_deepseek_r1_so_CPPFLAGS = $(plugin_cppflags)
dialect_deepseek_r1_so_CFLAGS = $(plugin_cflags)
dialect_deepseek_r1_so_LDFLAGS = $(plugin_ldflags)
