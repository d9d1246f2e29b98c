# The CPU backend. Its objects are static libraries, so that tests link what the plugin has; each instruction set's
# kernels are compiled with its own flags, and nothing else is.

# The kernels' tests are built of these alone too.
backend_cpu_kernels = \
	plugins/backend-cpu/kernels.c plugins/backend-cpu/kernels.h \
	plugins/backend-cpu/kernels-attention.h plugins/backend-cpu/kernels-attention-portable.c \
	plugins/backend-cpu/kernels-portable.c plugins/backend-cpu/kernels-portable-blocks.c \
	plugins/backend-cpu/panels.c plugins/backend-cpu/panels.h \
	plugins/backend-cpu/tiles-portable.c plugins/backend-cpu/tiles.h \
	plugins/backend-cpu/tiles-simd.h plugins/backend-cpu/tiles-unpack.h
backend_cpu_neon = plugins/backend-cpu/kernels-neon.c plugins/backend-cpu/tiles-neon.c plugins/backend-cpu/tiles-neon.h \
	$(kernels_simd_headers)
backend_cpu_dotprod = plugins/backend-cpu/tiles-neon-dotprod.c
dotprod_cflags = -march=armv8.2-a+dotprod
kernels_simd_headers = \
	plugins/backend-cpu/kernels-attention-simd.h plugins/backend-cpu/kernels-blocks.h \
	plugins/backend-cpu/kernels-inline.h plugins/backend-cpu/kernels-simd.h

noinst_LIBRARIES += plugins/backend-cpu/libbackend-cpu.a
plugins_backend_cpu_libbackend_cpu_a_SOURCES = \
	plugins/backend-cpu/attention.c \
	plugins/backend-cpu/backend.c \
	plugins/backend-cpu/cpu.h \
	plugins/backend-cpu/cpus.c plugins/backend-cpu/cpus.h \
	plugins/backend-cpu/elementwise.c \
	plugins/backend-cpu/experts.c \
	$(backend_cpu_kernels) \
	plugins/backend-cpu/matmul.c \
	plugins/backend-cpu/peak.c plugins/backend-cpu/peak.h plugins/backend-cpu/peak-portable.c \
	plugins/backend-cpu/route.c \
	plugins/backend-cpu/team.c plugins/backend-cpu/team.h \
	plugins/backend-cpu/tiles.c \
	plugins/backend-cpu/vectors.c
plugins_backend_cpu_libbackend_cpu_a_CPPFLAGS = $(plugin_cppflags) $(OPENBLAS_CFLAGS)
plugins_backend_cpu_libbackend_cpu_a_CFLAGS = $(plugin_cflags)

backend_cpu_libraries = plugins/backend-cpu/libbackend-cpu.a

if X86_64
avx512_cflags = -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl
noinst_LIBRARIES += plugins/backend-cpu/libkernels-avx2.a plugins/backend-cpu/libkernels-avx512.a
plugins_backend_cpu_libkernels_avx2_a_SOURCES = \
	plugins/backend-cpu/kernels-avx2.c $(kernels_simd_headers) plugins/backend-cpu/kernels-x86.h \
	plugins/backend-cpu/tiles-avx2.c plugins/backend-cpu/tiles-avx2.h
plugins_backend_cpu_libkernels_avx2_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libkernels_avx2_a_CFLAGS = $(plugin_cflags) -mavx2 -mfma -mf16c
plugins_backend_cpu_libkernels_avx512_a_SOURCES = \
	plugins/backend-cpu/kernels-avx512.c $(kernels_simd_headers) plugins/backend-cpu/kernels-x86.h
plugins_backend_cpu_libkernels_avx512_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libkernels_avx512_a_CFLAGS = $(plugin_cflags) $(avx512_cflags)
noinst_LIBRARIES += plugins/backend-cpu/libtiles-avx2-vnni.a plugins/backend-cpu/libtiles-avx512.a \
	plugins/backend-cpu/libavx512-bf16.a
plugins_backend_cpu_libtiles_avx2_vnni_a_SOURCES = plugins/backend-cpu/tiles-avx2-vnni.c
plugins_backend_cpu_libtiles_avx2_vnni_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libtiles_avx2_vnni_a_CFLAGS = $(plugin_cflags) -mavx2 -mfma -mf16c -mavxvnni
plugins_backend_cpu_libtiles_avx512_a_SOURCES = plugins/backend-cpu/tiles-avx512.c \
	plugins/backend-cpu/kernels-attention-vnni.c
plugins_backend_cpu_libtiles_avx512_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libtiles_avx512_a_CFLAGS = $(plugin_cflags) $(avx512_cflags) -mavx512vnni
plugins_backend_cpu_libavx512_bf16_a_SOURCES = plugins/backend-cpu/tiles-bf16.c plugins/backend-cpu/kernels-attention-bf16.c
plugins_backend_cpu_libavx512_bf16_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libavx512_bf16_a_CFLAGS = $(plugin_cflags) $(avx512_cflags) -mavx512bf16
backend_cpu_libraries += plugins/backend-cpu/libkernels-avx2.a plugins/backend-cpu/libkernels-avx512.a \
	plugins/backend-cpu/libtiles-avx2-vnni.a plugins/backend-cpu/libtiles-avx512.a plugins/backend-cpu/libavx512-bf16.a
endif
include plugins/backend-cpu/peak.mk

if AARCH64
noinst_LIBRARIES += plugins/backend-cpu/libkernels-neon.a
plugins_backend_cpu_libkernels_neon_a_SOURCES = $(backend_cpu_neon)
plugins_backend_cpu_libkernels_neon_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libkernels_neon_a_CFLAGS = $(plugin_cflags)
noinst_LIBRARIES += plugins/backend-cpu/libtiles-neon-dotprod.a
plugins_backend_cpu_libtiles_neon_dotprod_a_SOURCES = $(backend_cpu_dotprod)
plugins_backend_cpu_libtiles_neon_dotprod_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libtiles_neon_dotprod_a_CFLAGS = $(plugin_cflags) $(dotprod_cflags)
backend_cpu_libraries += plugins/backend-cpu/libkernels-neon.a plugins/backend-cpu/libtiles-neon-dotprod.a
endif

plugin_PROGRAMS += backend-cpu.so
backend_cpu_so_SOURCES = plugins/backend-cpu/plugin.c
backend_cpu_so_CPPFLAGS = $(plugin_cppflags)
backend_cpu_so_CFLAGS = $(plugin_cflags)
backend_cpu_so_LDFLAGS = $(plugin_ldflags)
backend_cpu_so_LDADD = $(backend_cpu_libraries) $(OPENBLAS_LIBS)
