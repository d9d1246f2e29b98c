# The sampling chain of every model: data and arithmetic only, no library.
sampler_core_sources = \
	plugins/sampler-core/core.c plugins/sampler-core/core.h \
	plugins/sampler-core/filters.c \
	plugins/sampler-core/penalties.c \
	plugins/sampler-core/pick.c \
	plugins/sampler-core/random.h \
	plugins/sampler-core/weigh.c
# For `omp simd`, without OpenMP's threads; comparisons become vectors only if no trap is awaited.
sampler_core_cflags = $(plugin_cflags) -O3 -fopenmp-simd -fno-trapping-math

plugin_PROGRAMS += sampler-core.so
sampler_core_so_SOURCES = $(sampler_core_sources)
sampler_core_so_CPPFLAGS = $(plugin_cppflags)
sampler_core_so_CFLAGS = $(sampler_core_cflags)
sampler_core_so_LDFLAGS = $(plugin_ldflags)
