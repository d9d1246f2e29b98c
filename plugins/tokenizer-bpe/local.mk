# Byte-level BPE. Everything but the plugin's symbol is in a library, so that tests and fuzz targets can link it.
noinst_LIBRARIES += plugins/tokenizer-bpe/libtokenizer-bpe.a
plugins_tokenizer_bpe_libtokenizer_bpe_a_SOURCES = \
	plugins/tokenizer-bpe/bpe.c plugins/tokenizer-bpe/bpe.h \
	plugins/tokenizer-bpe/encode.c \
	plugins/tokenizer-bpe/merge.c \
	plugins/tokenizer-bpe/normalize.c \
	plugins/tokenizer-bpe/patterns.c \
	plugins/tokenizer-bpe/split.c
tokenizer_bpe_libs = \
	plugins/tokenizer-bpe/libtokenizer-bpe.a plugins/tokenizer-common/libtokenizer-common.a $(PCRE2_LIBS) $(UTF8PROC_LIBS)
plugins_tokenizer_bpe_libtokenizer_bpe_a_CPPFLAGS = $(plugin_cppflags) $(PCRE2_CFLAGS) $(UTF8PROC_CFLAGS)
plugins_tokenizer_bpe_libtokenizer_bpe_a_CFLAGS = $(plugin_cflags)

plugin_PROGRAMS += tokenizer-bpe.so
tokenizer_bpe_so_SOURCES = plugins/tokenizer-bpe/plugin.c
tokenizer_bpe_so_CPPFLAGS = $(plugin_cppflags) $(PCRE2_CFLAGS)
tokenizer_bpe_so_CFLAGS = $(plugin_cflags)
tokenizer_bpe_so_LDFLAGS = $(plugin_ldflags)
tokenizer_bpe_so_LDADD = $(tokenizer_bpe_libs)
