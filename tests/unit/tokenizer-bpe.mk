if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-tokenizer-bpe
TESTS += tests/unit/test-tokenizer-bpe
endif
tests_unit_test_tokenizer_bpe_SOURCES = tests/unit/test-tokenizer-bpe.c
tests_unit_test_tokenizer_bpe_CPPFLAGS = \
	$(AM_CPPFLAGS) -I$(top_srcdir)/plugins/tokenizer-bpe $(PCRE2_CFLAGS) $(UTF8PROC_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_tokenizer_bpe_LDADD = \
	$(tokenizer_bpe_libs) $(CMOCKA_LIBS)

# Real vocabularies, driven by scripts.
check_PROGRAMS += tests/unit/tokenize
tests_unit_tokenize_SOURCES = tests/unit/tokenize.c plugins/tokenizer-bpe/plugin.c
tests_unit_tokenize_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) $(JANSSON_CFLAGS)
tests_unit_tokenize_LDADD = $(tokenizer_bpe_libs) $(fuzz_format_libs)
check_PROGRAMS += tests/unit/tokenize-spm
tests_unit_tokenize_spm_SOURCES = tests/unit/tokenize.c plugins/tokenizer-spm/plugin.c
tests_unit_tokenize_spm_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
tests_unit_tokenize_spm_LDADD = $(tokenizer_spm_libs) $(fuzz_format_libs)
TESTS += tests/unit/tokenizer-tiny-r1.py tests/unit/tokenizer-vocabularies.py
EXTRA_DIST += tests/unit/tokenizer-tiny-r1.py tests/unit/tokenizer-vocabularies.py tests/unit/vocabulary.py
