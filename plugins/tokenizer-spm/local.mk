# SentencePiece's BPE. Everything but the plugin's symbol is in a library, so that tests and fuzz targets can link it.
noinst_LIBRARIES += plugins/tokenizer-spm/libtokenizer-spm.a
plugins_tokenizer_spm_libtokenizer_spm_a_SOURCES = \
	plugins/tokenizer-spm/encode.c \
	plugins/tokenizer-spm/join.c \
	plugins/tokenizer-spm/spm.c plugins/tokenizer-spm/spm.h
plugins_tokenizer_spm_libtokenizer_spm_a_CPPFLAGS = $(plugin_cppflags)
plugins_tokenizer_spm_libtokenizer_spm_a_CFLAGS = $(plugin_cflags)
tokenizer_spm_libs = \
	plugins/tokenizer-spm/libtokenizer-spm.a plugins/tokenizer-common/libtokenizer-common.a

plugin_PROGRAMS += tokenizer-spm.so
tokenizer_spm_so_SOURCES = plugins/tokenizer-spm/plugin.c
tokenizer_spm_so_CPPFLAGS = $(plugin_cppflags)
tokenizer_spm_so_CFLAGS = $(plugin_cflags)
tokenizer_spm_so_LDFLAGS = $(plugin_ldflags)
tokenizer_spm_so_LDADD = $(tokenizer_spm_libs)
