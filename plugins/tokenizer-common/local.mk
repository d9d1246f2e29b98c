# What every tokenizer plugin links.
noinst_LIBRARIES += plugins/tokenizer-common/libtokenizer-common.a
plugins_tokenizer_common_libtokenizer_common_a_SOURCES = \
	plugins/tokenizer-common/added.c \
	plugins/tokenizer-common/common.h \
	plugins/tokenizer-common/detokenize.c \
	plugins/tokenizer-common/heap.h \
	plugins/tokenizer-common/ids.c \
	plugins/tokenizer-common/utf8.c \
	plugins/tokenizer-common/lexicon.c
plugins_tokenizer_common_libtokenizer_common_a_CPPFLAGS = $(plugin_cppflags)
plugins_tokenizer_common_libtokenizer_common_a_CFLAGS = $(plugin_cflags)
