# Built with everything else, run by hand.
noinst_PROGRAMS += tests/bench/kernels
tests_bench_kernels_SOURCES = tests/bench/kernels.c
tests_bench_kernels_CPPFLAGS = $(plugin_cppflags) $(OPENBLAS_CFLAGS) -I$(top_srcdir)
tests_bench_kernels_LDADD = $(backend_cpu_libraries) $(OPENBLAS_LIBS)
noinst_PROGRAMS += tests/bench/tokenizer
tests_bench_tokenizer_SOURCES = tests/bench/tokenizer.c
tests_bench_tokenizer_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) -I$(top_srcdir)
tests_bench_tokenizer_LDADD = $(tokenizer_bpe_libs) $(fuzz_format_libs)
EXTRA_DIST += tests/bench/token-gaps.py
