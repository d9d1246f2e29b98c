# The sampling chain of every model: data and arithmetic only, no library.
sampler_core_sources = \
	plugins/sampler-core/core.c plugins/sampler-core/core.h \
	plugins/sampler-core/filters.c \
	plugins/sampler-core/penalties.c \
	plugins/sampler-core/pick.c \
	plugins/sampler-core/random.h

plugin_PROGRAMS += sampler-core.so
sampler_core_so_SOURCES = $(sampler_core_sources)
sampler_core_so_CPPFLAGS = $(plugin_cppflags)
sampler_core_so_CFLAGS = $(plugin_cflags)
sampler_core_so_LDFLAGS = $(plugin_ldflags)
