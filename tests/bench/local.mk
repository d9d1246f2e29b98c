# Built with everything else, run by hand.
noinst_PROGRAMS += tests/bench/kernels
tests_bench_kernels_SOURCES = tests/bench/kernels.c
tests_bench_kernels_CPPFLAGS = $(plugin_cppflags) $(OPENBLAS_CFLAGS) -I$(top_srcdir)
tests_bench_kernels_LDADD = $(backend_cpu_libraries) $(OPENBLAS_LIBS)
EXTRA_DIST += tests/bench/token-gaps.py
