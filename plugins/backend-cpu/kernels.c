/* kernels.c - which kernels a CPU gets. */
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Of F16C, AVX-VNNI and AVX512-BF16 not every compiler's __builtin_cpu_supports() knows. */
static bool has_f16c(void)
{
	unsigned a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}

/* Bits of EAX of leaf 7, subleaf 1. */
static bool has_leaf_7_1(unsigned bit)
{
	unsigned a = 0, b, c, d;

	return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> bit & 1;
}

enum { AVX_VNNI_BIT = 4, AVX512_BF16_BIT = 5 };

bool ds_isa_has(enum ds_isa isa)
{
	switch (isa) {
	case DS_ISA_PORTABLE:
		return true;
	case DS_ISA_AVX2:
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
	case DS_ISA_AVX2_VNNI:
		return ds_isa_has(DS_ISA_AVX2) && has_leaf_7_1(AVX_VNNI_BIT);
	case DS_ISA_AVX512:
		return ds_isa_has(DS_ISA_AVX2) && __builtin_cpu_supports("avx512f") &&
		       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
		       __builtin_cpu_supports("avx512vl");
	case DS_ISA_AVX512_VNNI:
		return ds_isa_has(DS_ISA_AVX512) && __builtin_cpu_supports("avx512vnni");
	case DS_ISA_AVX512_BF16:
		return ds_isa_has(DS_ISA_AVX512_VNNI) && has_leaf_7_1(AVX512_BF16_BIT);
	default:
		return false;
	}
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

bool ds_isa_has(enum ds_isa isa)
{
	return isa == DS_ISA_PORTABLE || isa == DS_ISA_NEON ||
	       (isa == DS_ISA_NEON_DOTPROD && getauxval(AT_HWCAP) & HWCAP_ASIMDDP);
}
#else
bool ds_isa_has(enum ds_isa isa)
{
	return isa == DS_ISA_PORTABLE;
}
#endif

enum ds_isa ds_isa_detect(void)
{
	enum ds_isa isa = DS_ISA_COUNT - 1;

	while (!ds_isa_has(isa))
		isa--;
	return isa;
}

const char *ds_isa_name(enum ds_isa isa)
{
	static const char *const names[DS_ISA_COUNT] = {
		[DS_ISA_PORTABLE] = "portable",
		[DS_ISA_NEON] = "neon",
		[DS_ISA_NEON_DOTPROD] = "neon-dotprod",
		[DS_ISA_AVX2] = "avx2",
		[DS_ISA_AVX2_VNNI] = "avx2-vnni",
		[DS_ISA_AVX512] = "avx512",
		[DS_ISA_AVX512_VNNI] = "avx512-vnni",
		[DS_ISA_AVX512_BF16] = "avx512-bf16",
	};

	return names[isa];
}

void ds_kernels_init(struct ds_kernels *k, enum ds_isa isa)
{
	ds_kernels_init_portable(k);
	ds_tiles_init_portable(&k->tiles);
#if defined(__x86_64__)
	if (isa >= DS_ISA_AVX2) {
		ds_kernels_init_avx2(k);
		ds_tiles_init_avx2(&k->tiles);
	}
	if (isa == DS_ISA_AVX2_VNNI)
		ds_tiles_init_avx2_vnni(&k->tiles);
	if (isa >= DS_ISA_AVX512)
		ds_kernels_init_avx512(k);
	if (isa >= DS_ISA_AVX512_VNNI) {
		ds_tiles_init_avx512_vnni(&k->tiles);
		ds_attention_init_avx512vnni(k);
	}
	if (isa >= DS_ISA_AVX512_BF16) {
		ds_tiles_init_avx512_bf16(&k->tiles);
		ds_attention_init_avx512bf16(k);
	}
#elif defined(__aarch64__)
	if (isa >= DS_ISA_NEON) {
		ds_kernels_init_neon(k);
		ds_tiles_init_neon(&k->tiles);
	}
	if (isa >= DS_ISA_NEON_DOTPROD)
		ds_tiles_init_neon_dotprod(&k->tiles);
#endif
}
