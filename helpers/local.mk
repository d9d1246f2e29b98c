# The executables that do what the broker must not. Their parts are a library, so that tests and fuzzers can have them.
noinst_LIBRARIES += helpers/libloader.a
helpers_libloader_a_SOURCES = \
	helpers/builder.c helpers/builder.h \
	helpers/convert.c \
	helpers/describe.c helpers/describe.h \
	helpers/fill.c helpers/fill.h \
	helpers/gguf-mix.c helpers/gguf-mix.h \
	helpers/gguf-model.c helpers/gguf-model.h \
	helpers/gguf-words.c \
	helpers/gguf-writer.c helpers/gguf-writer.h \
	helpers/inspect.c \
	helpers/loader.c helpers/loader.h \
	helpers/quantize.c helpers/quantize.h \
	helpers/quantize-fit.c helpers/quantize-fit.h \
	helpers/quantize-k.c helpers/quantize-k.h \
	helpers/render.c \
	helpers/requests.c helpers/requests.h \
	helpers/source.c helpers/source.h \
	helpers/tokenize.c
helpers_libloader_a_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/lib $(JANSSON_CFLAGS)
# For `omp simd`, without OpenMP's threads.
helpers_libloader_a_CFLAGS = $(AM_CFLAGS) -O3 -fopenmp-simd

helper_PROGRAMS += helpers/ds-loader
helpers_ds_loader_SOURCES = helpers/ds-loader.c
helpers_ds_loader_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/lib $(JANSSON_CFLAGS)
helpers_ds_loader_LDADD = helpers/libloader.a lib/libdsplugins.a lib/libds.a $(JANSSON_LIBS) $(SECCOMP_LIBS)
