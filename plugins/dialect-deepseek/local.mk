# How DeepSeek's models, V2 to V3.1, write a conversation.
dialect_deepseek_sources = \
	plugins/dialect-deepseek/dialect.c \
	plugins/dialect-deepseek/dialect-deepseek.h \
	plugins/dialect-deepseek/literals.c \
	plugins/dialect-deepseek/parse.c \
	plugins/dialect-deepseek/recognize.c \
	plugins/dialect-deepseek/render.c \
	plugins/dialect-deepseek/vectors.c

plugin_PROGRAMS += dialect-deepseek.so
dialect_deepseek_so_SOURCES = $(dialect_deepseek_sources)
dialect_deepseek_so_CPPFLAGS = $(plugin_cppflags)
dialect_deepseek_so_CFLAGS = $(plugin_cflags)
dialect_deepseek_so_LDFLAGS = $(plugin_ldflags)
