# Fuzz targets: one file fuzz-NAME.c with LLVMFuzzerTestOneInput(), a corpus in corpus/NAME, and a few lines here.
# `make check` replays the corpus. For fuzzing: configure CC=clang --enable-fuzz, make check_PROGRAMS, then
#     tests/fuzz/fuzz-NAME -max_total_time=60 SCRATCH ../../tests/fuzz/corpus/NAME      (new inputs go to SCRATCH)
fuzz_programs =
if FUZZ
fuzz_driver =
fuzz_ldflags = $(AM_LDFLAGS) -fsanitize=fuzzer
else
fuzz_driver = tests/fuzz/replay.c
fuzz_ldflags = $(AM_LDFLAGS)
TESTS += $(fuzz_programs)
endif
check_PROGRAMS += $(fuzz_programs)
EXTRA_DIST += tests/fuzz/corpus

# format-safetensors: the same three parsers, each with the other files of a checkpoint held still.
fuzz_format_cppflags = $(AM_CPPFLAGS) $(JANSSON_CFLAGS) -I$(top_srcdir)
fuzz_format_libs = plugins/format-safetensors/libformat-safetensors.a plugins/format-common/libformat-common.a \
	$(JANSSON_LIBS)
EXTRA_DIST += tests/checkpoint.h

fuzz_programs += tests/fuzz/fuzz-safetensors
tests_fuzz_fuzz_safetensors_SOURCES = tests/fuzz/fuzz-safetensors.c $(fuzz_driver)
tests_fuzz_fuzz_safetensors_CPPFLAGS = $(fuzz_format_cppflags)
tests_fuzz_fuzz_safetensors_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_safetensors_LDADD = $(fuzz_format_libs)

fuzz_programs += tests/fuzz/fuzz-tokenizer-json
tests_fuzz_fuzz_tokenizer_json_SOURCES = tests/fuzz/fuzz-tokenizer-json.c $(fuzz_driver)
tests_fuzz_fuzz_tokenizer_json_CPPFLAGS = $(fuzz_format_cppflags)
tests_fuzz_fuzz_tokenizer_json_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_tokenizer_json_LDADD = $(fuzz_format_libs)

fuzz_programs += tests/fuzz/fuzz-config
tests_fuzz_fuzz_config_SOURCES = tests/fuzz/fuzz-config.c $(fuzz_driver)
tests_fuzz_fuzz_config_CPPFLAGS = $(fuzz_format_cppflags)
tests_fuzz_fuzz_config_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_config_LDADD = $(fuzz_format_libs)

# format-gguf: a whole file, a vocabulary, a split set.
fuzz_programs += tests/fuzz/fuzz-gguf
tests_fuzz_fuzz_gguf_SOURCES = tests/fuzz/fuzz-gguf.c $(fuzz_driver)
tests_fuzz_fuzz_gguf_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
tests_fuzz_fuzz_gguf_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_gguf_LDADD = plugins/format-gguf/libformat-gguf.a plugins/format-common/libformat-common.a -lm

# dsctl: a stream of server-sent events.
fuzz_programs += tests/fuzz/fuzz-sse
tests_fuzz_fuzz_sse_SOURCES = tests/fuzz/fuzz-sse.c $(fuzz_driver)
tests_fuzz_fuzz_sse_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
tests_fuzz_fuzz_sse_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_sse_LDADD = client/libdsctl.a

# The broker: what a client says by TCP of whom it calls, and what a unit is called.
fuzz_programs += tests/fuzz/fuzz-access
tests_fuzz_fuzz_access_SOURCES = tests/fuzz/fuzz-access.c $(fuzz_driver)
tests_fuzz_fuzz_access_CPPFLAGS = $(daemon_cppflags) -I$(top_srcdir)
tests_fuzz_fuzz_access_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_access_LDADD = $(daemon_libs)

# tokenizer-bpe, over a small vocabulary.
fuzz_programs += tests/fuzz/fuzz-tokenizer
tests_fuzz_fuzz_tokenizer_SOURCES = tests/fuzz/fuzz-tokenizer.c $(fuzz_driver)
tests_fuzz_fuzz_tokenizer_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) -I$(top_srcdir)/plugins/tokenizer-bpe
tests_fuzz_fuzz_tokenizer_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_tokenizer_LDADD = $(tokenizer_bpe_libs)

# tokenizer-spm, the same.
fuzz_programs += tests/fuzz/fuzz-tokenizer-spm
tests_fuzz_fuzz_tokenizer_spm_SOURCES = tests/fuzz/fuzz-tokenizer-spm.c $(fuzz_driver)
tests_fuzz_fuzz_tokenizer_spm_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/plugins/tokenizer-spm
tests_fuzz_fuzz_tokenizer_spm_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_tokenizer_spm_LDADD = $(tokenizer_spm_libs)

# dialect-deepseek: the parser of answers.
fuzz_programs += tests/fuzz/fuzz-dialect
tests_fuzz_fuzz_dialect_SOURCES = tests/fuzz/fuzz-dialect.c $(dialect_deepseek_sources) $(fuzz_driver)
tests_fuzz_fuzz_dialect_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/plugins/dialect-deepseek
tests_fuzz_fuzz_dialect_LDFLAGS = $(fuzz_ldflags)

# lib: a model image; a datagram between broker and helper.
fuzz_programs += tests/fuzz/fuzz-image
tests_fuzz_fuzz_image_SOURCES = tests/fuzz/fuzz-image.c $(fuzz_driver)
tests_fuzz_fuzz_image_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
tests_fuzz_fuzz_image_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_image_LDADD = lib/libds.a

fuzz_programs += tests/fuzz/fuzz-message
tests_fuzz_fuzz_message_SOURCES = tests/fuzz/fuzz-message.c $(fuzz_driver)
tests_fuzz_fuzz_message_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
tests_fuzz_fuzz_message_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_message_LDADD = lib/libds.a

# The broker: its configuration; the body of a request.
fuzz_programs += tests/fuzz/fuzz-yaml-config
tests_fuzz_fuzz_yaml_config_SOURCES = tests/fuzz/fuzz-yaml-config.c $(fuzz_driver)
tests_fuzz_fuzz_yaml_config_CPPFLAGS = $(daemon_cppflags)
tests_fuzz_fuzz_yaml_config_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_yaml_config_LDADD = $(daemon_libs)

fuzz_programs += tests/fuzz/fuzz-body
tests_fuzz_fuzz_body_SOURCES = tests/fuzz/fuzz-body.c $(fuzz_driver)
tests_fuzz_fuzz_body_CPPFLAGS = $(daemon_cppflags) -I$(top_srcdir)
tests_fuzz_fuzz_body_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_body_LDADD = $(daemon_libs)
