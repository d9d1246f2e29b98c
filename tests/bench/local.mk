# Built with everything else, run by hand; kernels, when run without an argument, is a test.
noinst_PROGRAMS += tests/bench/backend
tests_bench_backend_SOURCES = tests/bench/backend.c
tests_bench_backend_CPPFLAGS = $(plugin_cppflags) $(OPENBLAS_CFLAGS) -I$(top_srcdir)
tests_bench_backend_LDADD = $(backend_cpu_libraries) $(OPENBLAS_LIBS)
noinst_PROGRAMS += tests/bench/kernels
TESTS += tests/bench/kernels
kernel_tests = tests/bench/kernels.c tests/bench/kernels.h \
	tests/bench/kernels-attention.c tests/bench/kernels-bench.c tests/bench/kernels-blocks.c \
	tests/bench/kernels-passes.c tests/bench/kernels-products.c tests/bench/kernels-tiles.c tests/unit/random-blocks.h
tests_bench_kernels_SOURCES = $(kernel_tests)
tests_bench_kernels_CPPFLAGS = $(plugin_cppflags) -I$(top_srcdir)
tests_bench_kernels_LDADD = $(backend_cpu_libraries)
noinst_PROGRAMS += tests/bench/tokenizer
tests_bench_tokenizer_SOURCES = tests/bench/tokenizer.c
tests_bench_tokenizer_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) -I$(top_srcdir)
tests_bench_tokenizer_LDADD = $(tokenizer_bpe_libs) $(fuzz_format_libs)
EXTRA_DIST += tests/bench/load.py tests/bench/restart.py tests/bench/token-gaps.py
# Models of the shape of published ones, with random weights; `synth-model` alone lists them.
noinst_PROGRAMS += tests/bench/synth-model
tests_bench_synth_model_SOURCES = tests/bench/synth-model.c \
	tests/bench/synth-presets.c tests/bench/synth-presets.h \
	tests/bench/synth-safetensors.c tests/bench/synth-safetensors.h \
	tests/bench/synth-weights.c tests/bench/synth-weights.h \
	tests/bench/synth-words.c tests/bench/synth-words.h
tests_bench_synth_model_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/helpers -I$(top_srcdir)/lib
tests_bench_synth_model_CFLAGS = $(AM_CFLAGS) -Wno-override-init
tests_bench_synth_model_LDADD = helpers/libloader.a lib/libds.a
noinst_PROGRAMS += tests/bench/attention
tests_bench_attention_SOURCES = tests/bench/attention.c
tests_bench_attention_CPPFLAGS = $(plugin_cppflags) -I$(top_srcdir)
tests_bench_attention_LDADD = $(backend_cpu_libraries) $(OPENBLAS_LIBS)
noinst_PROGRAMS += tests/bench/sampler
tests_bench_sampler_SOURCES = tests/bench/sampler.c
tests_bench_sampler_CPPFLAGS = $(engine_cppflags)
tests_bench_sampler_LDADD = $(engine_libraries) $(JANSSON_LIBS) $(SECCOMP_LIBS) -lm
