/* kernels.c - which kernels a CPU gets. */
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Of F16C clang's __builtin_cpu_supports() does not know. */
static bool has_f16c(void)
{
	unsigned a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
#endif

enum ds_isa ds_isa_detect(void)
{
#if defined(__x86_64__)
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
		return DS_ISA_PORTABLE;
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
	    !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
		return DS_ISA_AVX2;
	return DS_ISA_AVX512;
#elif defined(__aarch64__)
	return DS_ISA_NEON;
#else
	return DS_ISA_PORTABLE;
#endif
}

const char *ds_isa_name(enum ds_isa isa)
{
	static const char *const names[DS_ISA_COUNT] = {
		[DS_ISA_PORTABLE] = "portable",
#if defined(__x86_64__)
		[DS_ISA_AVX2] = "avx2",
		[DS_ISA_AVX512] = "avx512",
#elif defined(__aarch64__)
		[DS_ISA_NEON] = "neon",
#endif
	};

	return names[isa];
}

void ds_kernels_init(struct ds_kernels *k, enum ds_isa isa)
{
	ds_kernels_init_portable(k);
#if defined(__x86_64__)
	if (isa >= DS_ISA_AVX2)
		ds_kernels_init_avx2(k);
	if (isa >= DS_ISA_AVX512)
		ds_kernels_init_avx512(k);
#elif defined(__aarch64__)
	if (isa >= DS_ISA_NEON)
		ds_kernels_init_neon(k);
#endif
}
