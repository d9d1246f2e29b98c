# The CPU backend. Its objects are static libraries, so that tests link what the plugin has; each instruction set's
# kernels are compiled with its own flags, and nothing else is.

# The kernels' tests are built of these alone too.
backend_cpu_kernels = \
	plugins/backend-cpu/kernels.c plugins/backend-cpu/kernels.h \
	plugins/backend-cpu/kernels-attention.h plugins/backend-cpu/kernels-attention-portable.c \
	plugins/backend-cpu/kernels-portable.c plugins/backend-cpu/kernels-portable-blocks.c \
	plugins/backend-cpu/panels.c plugins/backend-cpu/panels.h \
	plugins/backend-cpu/tiles-portable.c plugins/backend-cpu/tiles.h \
	plugins/backend-cpu/tiles-simd.h plugins/backend-cpu/tiles-unpack.h \
	plugins/backend-cpu/tiles-flat.h plugins/backend-cpu/tiles-few.h
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
	plugins/backend-cpu/expanded.c plugins/backend-cpu/experts.c \
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

# A library an instruction set: kernels, tiles, attention, and the loop that shows what its units can do at most.
if X86_64
avx2_cflags = -mavx2 -mfma -mf16c
avx512_cflags = $(avx2_cflags) -mavx512f -mavx512bw -mavx512dq -mavx512vl
noinst_LIBRARIES += plugins/backend-cpu/libavx2.a
plugins_backend_cpu_libavx2_a_SOURCES = \
	plugins/backend-cpu/kernels-avx2.c $(kernels_simd_headers) plugins/backend-cpu/kernels-x86.h \
	plugins/backend-cpu/tiles-avx2.c plugins/backend-cpu/tiles-avx2.h plugins/backend-cpu/peak-avx2.c
plugins_backend_cpu_libavx2_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libavx2_a_CFLAGS = $(plugin_cflags) $(avx2_cflags)
backend_cpu_libraries += plugins/backend-cpu/libavx2.a
noinst_LIBRARIES += plugins/backend-cpu/libavx2-vnni.a
plugins_backend_cpu_libavx2_vnni_a_SOURCES = \
	plugins/backend-cpu/tiles-avx2-vnni.c plugins/backend-cpu/peak-avxvnni.c
plugins_backend_cpu_libavx2_vnni_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libavx2_vnni_a_CFLAGS = $(plugin_cflags) $(avx2_cflags) -mavxvnni
backend_cpu_libraries += plugins/backend-cpu/libavx2-vnni.a
noinst_LIBRARIES += plugins/backend-cpu/libavx512.a
plugins_backend_cpu_libavx512_a_SOURCES = \
	plugins/backend-cpu/kernels-avx512.c $(kernels_simd_headers) plugins/backend-cpu/kernels-x86.h \
	plugins/backend-cpu/peak-avx512.c
plugins_backend_cpu_libavx512_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libavx512_a_CFLAGS = $(plugin_cflags) $(avx512_cflags)
backend_cpu_libraries += plugins/backend-cpu/libavx512.a
noinst_LIBRARIES += plugins/backend-cpu/libavx512-vnni.a
plugins_backend_cpu_libavx512_vnni_a_SOURCES = \
	plugins/backend-cpu/tiles-avx512.c plugins/backend-cpu/kernels-attention-vnni.c \
	plugins/backend-cpu/peak-avx512vnni.c
plugins_backend_cpu_libavx512_vnni_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libavx512_vnni_a_CFLAGS = $(plugin_cflags) $(avx512_cflags) -mavx512vnni
backend_cpu_libraries += plugins/backend-cpu/libavx512-vnni.a
noinst_LIBRARIES += plugins/backend-cpu/libavx512-bf16.a
plugins_backend_cpu_libavx512_bf16_a_SOURCES = \
	plugins/backend-cpu/tiles-bf16.c plugins/backend-cpu/kernels-attention-bf16.c \
	plugins/backend-cpu/peak-avx512bf16.c
plugins_backend_cpu_libavx512_bf16_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libavx512_bf16_a_CFLAGS = $(plugin_cflags) $(avx512_cflags) -mavx512bf16
backend_cpu_libraries += plugins/backend-cpu/libavx512-bf16.a
endif

if AARCH64
noinst_LIBRARIES += plugins/backend-cpu/libneon.a
plugins_backend_cpu_libneon_a_SOURCES = \
	$(backend_cpu_neon) plugins/backend-cpu/peak-neon.c
plugins_backend_cpu_libneon_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libneon_a_CFLAGS = $(plugin_cflags)
backend_cpu_libraries += plugins/backend-cpu/libneon.a
noinst_LIBRARIES += plugins/backend-cpu/libneon-dotprod.a
plugins_backend_cpu_libneon_dotprod_a_SOURCES = \
	$(backend_cpu_dotprod) plugins/backend-cpu/peak-neondot.c
plugins_backend_cpu_libneon_dotprod_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libneon_dotprod_a_CFLAGS = $(plugin_cflags) $(dotprod_cflags)
backend_cpu_libraries += plugins/backend-cpu/libneon-dotprod.a
endif

plugin_PROGRAMS += backend-cpu.so
backend_cpu_so_SOURCES = plugins/backend-cpu/plugin.c
backend_cpu_so_CPPFLAGS = $(plugin_cppflags)
backend_cpu_so_CFLAGS = $(plugin_cflags)
backend_cpu_so_LDFLAGS = $(plugin_ldflags)
backend_cpu_so_LDADD = $(backend_cpu_libraries) $(OPENBLAS_LIBS)
