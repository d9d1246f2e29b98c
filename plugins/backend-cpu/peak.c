/* peak.c - measures the machine itself: how fast the team reads memory in order, and how fast it multiplies.
 *
 * The best of several short runs counts, since whatever else happens on the machine only makes them longer. */
#include "cpu.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "peak.h"

enum {
	READS = 8,
	LOOPS = 64,
	PIECES_A_MEMBER = 4,
	PIECE_TURNS = 1 << 15, /* of a loop: a run of all pieces is a fifth of a millisecond, which others may leave us alone */
	READ_CHUNK = 2 << 20,
};

#define MIN_BUFFER (256ull << 20)
#define MAX_BUFFER (1024ull << 20)
#define TIMES_CACHE 16 /* what of the buffer the last cache may hold must not matter */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- memory ---- */

static void write_chunks(void *arg, size_t first, size_t last, unsigned member)
{
	memset((char *)arg + first * READ_CHUNK, 1, (last - first) * READ_CHUNK);
}

/* Two cache lines at a time, those 8 KiB ahead being on their way. */
static void read_chunks(void *arg, size_t first, size_t last, unsigned member)
{
	const uint64_t *p = (const uint64_t *)arg + first * (READ_CHUNK / sizeof(*p));
	const uint64_t *end = (const uint64_t *)arg + last * (READ_CHUNK / sizeof(*p));
	uint64_t sums[16] = {0};

	for (; p < end; p += DS_ARRAY_SIZE(sums)) {
		__builtin_prefetch(p + 1024, 0, 0);
		__builtin_prefetch(p + 1032, 0, 0);
		for (size_t i = 0; i < DS_ARRAY_SIZE(sums); i++)
			sums[i] ^= p[i];
	}
	for (size_t i = 1; i < DS_ARRAY_SIZE(sums); i++)
		sums[0] ^= sums[i];
	__asm__ volatile("" : : "r"(sums[0]));
}

/* Bytes of the last caches that a team of @n_members can fill; 0: not known. What the C library says of it is that of
 * the whole socket on some CPUs, of a part on others, so the CPU is asked: deterministic cache parameters, CPUID leaf 4 of
 * Intel and 0x8000001d of AMD, alike. */
static uint64_t cache_size(unsigned n_members)
{
	uint64_t last = 0;
#if defined(__x86_64__)
	unsigned a, b, c, d, last_leaf = __get_cpuid_max(0x80000000, NULL), leaf = last_leaf >= 0x8000001d ? 0x8000001d : 4;

	for (unsigned i = 0; i < 16 && __get_cpuid_count(leaf, i, &a, &b, &c, &d) && (a & 31) != 0; i++) {
		uint64_t size = ((b >> 22) + 1ull) * ((b >> 12 & 1023) + 1ull) * ((b & 4095) + 1ull) * (c + 1ull);
		unsigned n_sharing = (a >> 14 & 4095) + 1;

		last = size * ((n_members + n_sharing - 1) / n_sharing);
	}
#endif
	return last;
}

static uint64_t buffer_size(unsigned n_members)
{
	uint64_t size = TIMES_CACHE * cache_size(n_members);

	size = size < MIN_BUFFER ? MIN_BUFFER : size > MAX_BUFFER ? MAX_BUFFER : size;
	return size - size % READ_CHUNK;
}

static int measure_memory(struct ds_cpu *cpu, struct ds_peak *peak, struct ds_error *err)
{
	uint64_t size = buffer_size(ds_team_size(cpu->team));
	void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (data == MAP_FAILED)
		return ds_fail(err, -ENOMEM, "no memory for %llu bytes to be read", (unsigned long long)size);
	madvise(data, size, MADV_HUGEPAGE); /* as images have it; without it the rate is lower */
	ds_team_run(cpu->team, size / READ_CHUNK, 1, write_chunks, data);
	for (unsigned i = 0; i < READS; i++) {
		double begin = now(), rate;

		ds_team_run(cpu->team, size / READ_CHUNK, 1, read_chunks, data);
		rate = (double)size / (now() - begin);
		if (rate > peak->bytes_per_second)
			peak->bytes_per_second = rate;
	}
	munmap(data, size);
	peak->n_bytes = size;
	return 0;
}

/* ---- arithmetic ---- */

/* In the order of their width: what multiplies narrower numbers may also have the wider ones instead. */
enum unit {
	UNIT_F32,
	UNIT_BF16,
	UNIT_INT8,
};

static const struct {
	enum unit unit;
	const char *name;
	enum ds_isa isa;
	const struct ds_peak_loop *loop;
} loops[] = {
	{UNIT_F32, "float32", DS_ISA_PORTABLE, &ds_peak_f32_portable},
#if defined(__x86_64__)
	{UNIT_F32, "float32", DS_ISA_AVX2, &ds_peak_f32_avx2},
	{UNIT_F32, "float32", DS_ISA_AVX512, &ds_peak_f32_avx512},
	{UNIT_BF16, "bf16", DS_ISA_AVX512_BF16, &ds_peak_bf16_avx512},
	{UNIT_INT8, "int8", DS_ISA_AVX2, &ds_peak_int8_avx2},
	{UNIT_INT8, "int8", DS_ISA_AVX2_VNNI, &ds_peak_int8_avxvnni},
	{UNIT_INT8, "int8", DS_ISA_AVX512_VNNI, &ds_peak_int8_avx512},
#elif defined(__aarch64__)
	{UNIT_F32, "float32", DS_ISA_NEON, &ds_peak_f32_neon},
	{UNIT_INT8, "int8", DS_ISA_NEON_DOTPROD, &ds_peak_int8_neon},
#endif
};

static void run_pieces(void *arg, size_t first, size_t last, unsigned member)
{
	const struct ds_peak_loop *loop = arg;

	loop->run((last - first) * PIECE_TURNS);
}

/* Operations a second of the whole team. */
static double measure_loop(struct ds_cpu *cpu, const struct ds_peak_loop *loop)
{
	size_t n = (size_t)PIECES_A_MEMBER * ds_team_size(cpu->team);
	double best = 0;

	for (unsigned i = 0; i < LOOPS; i++) {
		double begin = now(), rate;

		ds_team_run(cpu->team, n, 1, run_pieces, (void *)(uintptr_t)loop);
		rate = (double)(n * PIECE_TURNS * loop->n_operations) / (now() - begin);
		best = rate > best ? rate : best;
	}
	return best;
}

/* What products with weights of @dtype are made of. */
static enum unit unit_for(enum ds_dtype dtype, enum ds_precision precision)
{
	enum ds_tile_kind kind = precision == DS_PRECISION_EXACT ? DS_TILE_NONE : ds_tiles_kind(dtype);

	return kind == DS_TILE_NONE ? UNIT_F32 : kind == DS_TILE_BF16 ? UNIT_BF16 : UNIT_INT8;
}

int ds_cpu_peak(void *self, enum ds_dtype dtype, enum ds_precision precision, struct ds_peak *out, struct ds_error *err)
{
	enum unit unit = unit_for(dtype, precision);
	struct ds_cpu *cpu = self;
	struct ds_peak peak = {0};
	int r = measure_memory(cpu, &peak, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < DS_ARRAY_SIZE(loops); i++) {
		double rate = loops[i].unit <= unit && ds_isa_has(loops[i].isa) ? measure_loop(cpu, loops[i].loop) : 0;

		if (rate > peak.operations_per_second) {
			peak.operations_per_second = rate;
			peak.unit = loops[i].name;
		}
	}
	*out = peak;
	return 0;
}
