if X86_64
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
if AARCH64
noinst_LIBRARIES += plugins/backend-cpu/libpeak-neon.a plugins/backend-cpu/libpeak-neondot.a
plugins_backend_cpu_libpeak_neon_a_SOURCES = plugins/backend-cpu/peak-neon.c plugins/backend-cpu/peak.h
plugins_backend_cpu_libpeak_neon_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libpeak_neon_a_CFLAGS = $(plugin_cflags)
plugins_backend_cpu_libpeak_neondot_a_SOURCES = plugins/backend-cpu/peak-neondot.c plugins/backend-cpu/peak.h
plugins_backend_cpu_libpeak_neondot_a_CPPFLAGS = $(plugin_cppflags)
plugins_backend_cpu_libpeak_neondot_a_CFLAGS = $(plugin_cflags) -march=armv8.2-a+dotprod
backend_cpu_libraries += plugins/backend-cpu/libpeak-neon.a plugins/backend-cpu/libpeak-neondot.a
endif
