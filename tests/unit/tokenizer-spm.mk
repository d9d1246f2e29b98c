if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-tokenizer-spm
TESTS += tests/unit/test-tokenizer-spm
endif
tests_unit_test_tokenizer_spm_SOURCES = tests/unit/test-tokenizer-spm.c
tests_unit_test_tokenizer_spm_CPPFLAGS = \
	$(AM_CPPFLAGS) -I$(top_srcdir)/plugins/tokenizer-spm $(CMOCKA_CFLAGS)
tests_unit_test_tokenizer_spm_LDADD = $(tokenizer_spm_libs) -lm $(CMOCKA_LIBS)
