# The CPU backend. Its objects are static libraries, so that tests link what the plugin has; each instruction set's
# kernels are compiled with its own flags, and nothing else is.


noinst_LIBRARIES += plugins/backend-cpu/libbackend-cpu.a
plugins_backend_cpu_libbackend_cpu_a_SOURCES = \
	plugins/backend-cpu/attention.c \
	plugins/backend-cpu/backend.c \
	plugins/backend-cpu/cpu.h \
	plugins/backend-cpu/cpus.c plugins/backend-cpu/cpus.h \
	plugins/backend-cpu/elementwise.c \
	plugins/backend-cpu/experts.c \
	plugins/backend-cpu/kernels.c plugins/backend-cpu/kernels.h \
	plugins/backend-cpu/kernels-portable.c plugins/backend-cpu/kernels-portable-blocks.c \
	plugins/backend-cpu/matmul.c \
	plugins/backend-cpu/peak.c plugins/backend-cpu/peak.h plugins/backend-cpu/peak-portable.c \
	plugins/backend-cpu/route.c \
	plugins/backend-cpu/team.c plugins/backend-cpu/team.h \
	plugins/backend-cpu/vectors.c
plugins_backend_cpu_libbackend_cpu_a_CPPFLAGS = $(plugin_cppflags) $(OPENBLAS_CFLAGS)
plugins_backend_cpu_libbackend_cpu_a_CFLAGS = $(plugin_cflags)

backend_cpu_libraries = plugins/backend-cpu/libbackend-cpu.a

if X86_64
noinst_LIBRARIES += plugins/backend-cpu/libkernels-avx2.a plugins/backend-cpu/libkernels-avx512.a
plugins_backend_cpu_libkernels_avx2_a_SOURCES = \
	plugins/backend-cpu/kernels-avx2.c plugins/backend-cpu/kernels-simd.h plugins/backend-cpu/kernels-blocks.h
plugins_backend_cpu_libkernels_avx2_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libkernels_avx2_a_CFLAGS = $(plugin_cflags) -mavx2 -mfma -mf16c
plugins_backend_cpu_libkernels_avx512_a_SOURCES = \
	plugins/backend-cpu/kernels-avx512.c plugins/backend-cpu/kernels-simd.h plugins/backend-cpu/kernels-blocks.h
plugins_backend_cpu_libkernels_avx512_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libkernels_avx512_a_CFLAGS = $(plugin_cflags) \
	-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl
backend_cpu_libraries += plugins/backend-cpu/libkernels-avx2.a plugins/backend-cpu/libkernels-avx512.a

# What the units of the CPU can do at most: a loop for each, used by peak.c alone.
noinst_LIBRARIES += plugins/backend-cpu/libpeak-avx2.a plugins/backend-cpu/libpeak-avxvnni.a \
	plugins/backend-cpu/libpeak-avx512.a plugins/backend-cpu/libpeak-avx512vnni.a plugins/backend-cpu/libpeak-avx512bf16.a
plugins_backend_cpu_libpeak_avx2_a_SOURCES = plugins/backend-cpu/peak-avx2.c plugins/backend-cpu/peak.h
plugins_backend_cpu_libpeak_avx2_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libpeak_avx2_a_CFLAGS = $(plugin_cflags) -mavx2 -mfma
plugins_backend_cpu_libpeak_avxvnni_a_SOURCES = plugins/backend-cpu/peak-avxvnni.c plugins/backend-cpu/peak.h
plugins_backend_cpu_libpeak_avxvnni_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libpeak_avxvnni_a_CFLAGS = $(plugin_cflags) -mavx2 -mavxvnni
plugins_backend_cpu_libpeak_avx512_a_SOURCES = plugins/backend-cpu/peak-avx512.c plugins/backend-cpu/peak.h
plugins_backend_cpu_libpeak_avx512_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libpeak_avx512_a_CFLAGS = $(plugin_cflags) -mavx512f
plugins_backend_cpu_libpeak_avx512vnni_a_SOURCES = plugins/backend-cpu/peak-avx512vnni.c plugins/backend-cpu/peak.h
plugins_backend_cpu_libpeak_avx512vnni_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libpeak_avx512vnni_a_CFLAGS = $(plugin_cflags) -mavx512f -mavx512vnni
plugins_backend_cpu_libpeak_avx512bf16_a_SOURCES = plugins/backend-cpu/peak-avx512bf16.c plugins/backend-cpu/peak.h
plugins_backend_cpu_libpeak_avx512bf16_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libpeak_avx512bf16_a_CFLAGS = $(plugin_cflags) -mavx512f -mavx512bf16
backend_cpu_libraries += plugins/backend-cpu/libpeak-avx2.a plugins/backend-cpu/libpeak-avxvnni.a \
	plugins/backend-cpu/libpeak-avx512.a plugins/backend-cpu/libpeak-avx512vnni.a plugins/backend-cpu/libpeak-avx512bf16.a
endif

plugin_PROGRAMS += backend-cpu.so
backend_cpu_so_SOURCES = plugins/backend-cpu/plugin.c
backend_cpu_so_CPPFLAGS = $(plugin_cppflags)
backend_cpu_so_CFLAGS = $(plugin_cflags)
backend_cpu_so_LDFLAGS = $(plugin_ldflags)
backend_cpu_so_LDADD = $(backend_cpu_libraries) $(OPENBLAS_LIBS)
