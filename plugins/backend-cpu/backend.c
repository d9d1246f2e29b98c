/* backend.c - the entry "cpu": what opens it, how tensors are stored for it, its memory, its table of operations.
 *
 * Layout 0 keeps the rows of the checkpoint, floats or blocks: the float32 kernels read them as they are. Layout 1, of fast
 * precision, is that of panels.h. */
#include "cpu.h"

#include <cblas.h>
#include <string.h>
#include <sys/mman.h>

#include "cpus.h"

enum { HUGE_PAGE = 2 << 20 };

/* DEEPSEEKD_CPU asks for less than the CPU has, by the names of ds_isa_name(). What cannot be had is -1: open() says so. */
static int asked_isa(void)
{
	const char *name = getenv("DEEPSEEKD_CPU");

	if (!name || !*name)
		return (int)ds_isa_detect();
	for (int isa = 0; isa < DS_ISA_COUNT; isa++)
		if (!strcmp(name, ds_isa_name((enum ds_isa)isa)))
			return ds_isa_has((enum ds_isa)isa) ? isa : -1;
	return -1;
}

/* Says what could be asked for instead. */
static int refuse_isa(struct ds_error *err)
{
	char names[128] = "";
	size_t n = 0;

	for (int isa = 0; isa < DS_ISA_COUNT; isa++)
		if (ds_isa_has((enum ds_isa)isa) && n < sizeof(names))
			n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "", ds_isa_name((enum ds_isa)isa));
	return ds_fail(err, -EINVAL, "DEEPSEEKD_CPU=%.64s: this CPU has %s", getenv("DEEPSEEKD_CPU"), names);
}

static const char *identity(void)
{
	static const char *const names[DS_ISA_COUNT] = {
		[DS_ISA_PORTABLE] = "cpu-3-portable",
		[DS_ISA_NEON] = "cpu-3-neon",
		[DS_ISA_NEON_DOTPROD] = "cpu-3-neon-dotprod",
		[DS_ISA_AVX2] = "cpu-3-avx2",
		[DS_ISA_AVX2_VNNI] = "cpu-3-avx2-vnni",
		[DS_ISA_AVX512] = "cpu-3-avx512",
		[DS_ISA_AVX512_VNNI] = "cpu-3-avx512-vnni",
		[DS_ISA_AVX512_BF16] = "cpu-3-avx512-bf16",
	};
	int isa = asked_isa();

	return names[isa < 0 ? DS_ISA_PORTABLE : isa];
}

/* Whether the rows of @tensor, (rows, cols) or a stack of such, are to be interleaved: if there are kernels for that, and no
 * panel would hold rows of two matrices. */
static bool in_panels(const struct ds_tensor_desc *tensor, enum ds_precision precision)
{
	uint64_t cols = tensor->shape[tensor->n_dims - 1];

	if (precision != DS_PRECISION_FAST || tensor->n_dims < 2 || !ds_panel_has(tensor->dtype) ||
	    cols % DS_TILE_GROUP > 0 || (tensor->n_dims > 2 && tensor->shape[tensor->n_dims - 2] % DS_PANEL > 0))
		return false;
	return tensor->dtype != DS_DTYPE_BF16 || asked_isa() >= DS_ISA_AVX512_BF16;
}

static int plan(const struct ds_tensor_desc *tensor, enum ds_precision precision, struct ds_layout *layout,
		struct ds_error *err)
{
	const struct ds_dtype_info *info = ds_dtype_info(tensor->dtype);
	struct ds_layout rows = {.id = 0, .block_rows = 1};
	uint64_t cols, size;

	if (tensor->n_dims < 1 || tensor->n_dims > DS_MAX_DIMS)
		return ds_fail(err, -EINVAL, "%s has %u dimensions, a tensor has 1 to %d", tensor->name, tensor->n_dims,
			       DS_MAX_DIMS);
	if (!info)
		return ds_fail(err, -EINVAL, "%s is stored as type %d, which the CPU backend has no kernels for",
			       tensor->name, tensor->dtype);
	cols = tensor->shape[tensor->n_dims - 1];
	if (cols % info->block > 0 && tensor->dtype != DS_DTYPE_FP8)
		return ds_fail(err, -EINVAL, "%s is stored as %s, in blocks of %u, which its rows of %llu do not fill",
			       tensor->name, info->name, info->block, (unsigned long long)cols);
	if (cols > UINT64_MAX / info->size)
		return ds_fail(err, -EOVERFLOW, "%s is larger than memory can be", tensor->name);
	rows.block_size = size = ds_row_size(tensor->dtype, cols);
	for (uint32_t i = tensor->n_dims - 1; i-- > 0;)
		if (__builtin_mul_overflow(size, tensor->shape[i], &size))
			return ds_fail(err, -EOVERFLOW, "%s is larger than memory can be", tensor->name);
	rows.size = size;
	*layout = rows;
	if (in_panels(tensor, precision)) {
		uint64_t n_panels = (size / rows.block_size + DS_PANEL - 1) / DS_PANEL;

		*layout = (struct ds_layout){.id = DS_LAYOUT_PANELS, .block_rows = DS_PANEL};
		layout->block_size = ds_panel_size(tensor->dtype, cols);
		layout->size = n_panels * layout->block_size;
	}
	return 0;
}

static void pack(const struct ds_tensor_desc *tensor, const struct ds_layout *layout, uint64_t n_rows, const void *src,
		 void *dst)
{
	uint64_t cols = tensor->shape[tensor->n_dims - 1];

	if (layout->id == DS_LAYOUT_PANELS)
		ds_panel_pack(tensor->dtype, cols, n_rows, src, ds_row_size(tensor->dtype, cols), dst);
	else
		memcpy(dst, src, n_rows * layout->block_size);
}

static void cpu_close(void *self)
{
	struct ds_cpu *cpu = self;

	if (!cpu)
		return;
	ds_team_free(cpu->team);
	free(cpu->scratch);
	free(cpu->pairs.memory);
	free(cpu->codes.memory);
	free(cpu->turns.room.memory);
	free(cpu->expanded.memory);
	free(cpu);
}

/* What has to be asked of the system is asked here, while it still answers: start() comes after the sandbox. */
static int cpu_open(void **self, const struct ds_host *host, const struct ds_setting *settings, struct ds_error *err)
{
	struct ds_cpu *cpu;
	int isa = asked_isa();

	if (isa < 0)
		return refuse_isa(err);
	cpu = calloc(1, sizeof(*cpu));
	if (!cpu)
		return ds_fail(err, -ENOMEM, "no memory for the CPU backend");
	cpu->n_cpus = ds_cpus_usable();
	cpu->n_threads = (unsigned)ds_setting(settings, "threads", 0);
	ds_kernels_init(&cpu->kernels, (enum ds_isa)isa);
	openblas_set_num_threads(1);
	*self = cpu;
	return 0;
}

/* Memory for work, of huge pages where there are such, for free(); NULL when there is none. */
static void *huge_pages(size_t size)
{
	void *p;

	if (posix_memalign(&p, HUGE_PAGE, size))
		return NULL;
	madvise(p, size, MADV_HUGEPAGE);
	return p;
}

bool ds_room_reserve(struct ds_room *room, size_t size)
{
	void *memory;

	if (size <= room->size)
		return true;
	memory = huge_pages(size);
	if (!memory)
		return false;
	free(room->memory);
	*room = (struct ds_room){memory, size};
	return true;
}

bool ds_cpu_reserve(struct ds_cpu *cpu, struct ds_room *room, size_t size)
{
	if (ds_room_reserve(room, size))
		return true;
	cpu->failed = -ENOMEM;
	return false;
}

static int start(void *self, unsigned n_threads, struct ds_error *err)
{
	struct ds_cpu *cpu = self;
	ds_cleanup(ds_team_freep) struct ds_team *team = NULL;
	ds_cleanup(ds_freep) float *scratch = NULL;
	int r;

	if (cpu->team)
		return ds_fail(err, -EALREADY, "the CPU backend has been started");
	if (!n_threads)
		n_threads = cpu->n_threads ? cpu->n_threads : cpu->n_cpus;
	r = ds_team_new(&team, n_threads, cpu->n_cpus, err);
	if (r < 0)
		return r;
	scratch = huge_pages((size_t)n_threads * DS_SCRATCH * sizeof(*scratch));
	if (!scratch || !ds_room_reserve(&cpu->pairs, DS_PAIRS * sizeof(uint32_t)) ||
	    !ds_room_reserve(&cpu->codes, DS_CODES) || !ds_room_reserve(&cpu->turns.room, DS_TURNS))
		return ds_fail(err, -ENOMEM, "no memory for the work of %u threads", n_threads);
	cpu->team = ds_steal(&team);
	cpu->scratch = ds_steal(&scratch);
	return 0;
}

/* Weights are read where they are. */
static int map(void *self, const void *image, uint64_t size, struct ds_error *err)
{
	return 0;
}

/* Anonymous memory, untouched until it is used: a cache may be large and never be filled. What is large enough that a huge
 * page more is nothing to it asks for such: rows of a long text are read from thousands of pages in every step. */
enum { HUGE_FROM = 8 << 20, HEADER = 64 };

static void *cpu_alloc(void *self, uint64_t size)
{
	uint64_t total;
	char *p;

	if (__builtin_add_overflow(size, HEADER, &total) || total > PTRDIFF_MAX)
		return NULL;
	p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (total >= HUGE_FROM)
		madvise(p, total, MADV_HUGEPAGE);
	memcpy(p, &total, sizeof(total));
	return p + HEADER;
}

static void release(void *self, void *p)
{
	uint64_t total;

	if (!p)
		return;
	memcpy(&total, (char *)p - HEADER, sizeof(total));
	munmap((char *)p - HEADER, total);
}

static void copy(void *self, void *dst, const void *src, uint64_t size)
{
	if (size)
		memcpy(dst, src, size);
}

/* Operations are done when they return; what went wrong in one is said here, once. */
static int cpu_sync(void *self, struct ds_error *err)
{
	struct ds_cpu *cpu = self;
	int r = cpu->failed;

	cpu->failed = 0;
	return r < 0 ? ds_fail(err, r, "no memory for the activations of this step") : 0;
}

const struct ds_backend_ops ds_cpu_ops = {
	.size = sizeof(ds_cpu_ops),
	.plan = plan,
	.pack = pack,
	.identity = identity,
	.open = cpu_open,
	.start = start,
	.close = cpu_close,
	.map = map,
	.alloc = cpu_alloc,
	.release = release,
	.write = copy,
	.read = copy,
	.sync = cpu_sync,
	.embed = ds_cpu_embed,
	.rms_norm = ds_cpu_rms_norm,
	.matmul = ds_cpu_matmul,
	.head_matmul = ds_cpu_head_matmul,
	.expert_matmul = ds_cpu_expert_matmul,
	.expert_sum = ds_cpu_expert_sum,
	.route = ds_cpu_route,
	.rope = ds_cpu_rope,
	.kv_store = ds_cpu_kv_store,
	.latent_attention = ds_cpu_latent_attention,
	.swiglu = ds_cpu_swiglu,
	.gather = ds_cpu_gather,
	.attention = ds_cpu_attention,
	.add_bias = ds_cpu_add_bias,
	.peak = ds_cpu_peak,
	.expanded_attention = ds_cpu_expanded_attention,
};
