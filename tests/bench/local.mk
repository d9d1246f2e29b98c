# Built with everything else, run by hand.
noinst_PROGRAMS += tests/bench/kernels
tests_bench_kernels_SOURCES = tests/bench/kernels.c
tests_bench_kernels_CPPFLAGS = $(plugin_cppflags) $(OPENBLAS_CFLAGS) -I$(top_srcdir)
tests_bench_kernels_LDADD = $(backend_cpu_libraries) $(OPENBLAS_LIBS)
noinst_PROGRAMS += tests/bench/tokenizer
tests_bench_tokenizer_SOURCES = tests/bench/tokenizer.c
tests_bench_tokenizer_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) -I$(top_srcdir)
tests_bench_tokenizer_LDADD = $(tokenizer_bpe_libs) $(fuzz_format_libs)
EXTRA_DIST += tests/bench/restart.py tests/bench/token-gaps.py
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
noinst_PROGRAMS += tests/bench/sampler
tests_bench_sampler_SOURCES = tests/bench/sampler.c
tests_bench_sampler_CPPFLAGS = $(engine_cppflags)
tests_bench_sampler_LDADD = $(engine_libraries) $(JANSSON_LIBS) $(SECCOMP_LIBS) -lm
