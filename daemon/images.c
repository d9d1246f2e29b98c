/* images.c - memfds of model images. */
#include "images.h"
#include "units.h"

#include <fcntl.h>
#include <message.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

int ds_images_create(const char *name, uint64_t size, struct ds_error *err)
{
	ds_cleanup(ds_closep) int fd = -1;
	char label[128];

	snprintf(label, sizeof(label), "deepseekd-%s", name);
	fd = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return ds_fail(err, -errno, "no memfd for the image of %s: %s", name, strerror(errno));
	/* No x bits: else F_SEAL_EXEC would mean something else; and only the daemon's user may open it again. */
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0)
		return ds_fail(err, -errno, "an image of %llu bytes for %s: %s", (unsigned long long)size, name,
			       strerror(errno));
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return ds_fail(err, -errno, "sealing the size of the image of %s: %s", name, strerror(errno));
	return ds_steal_fd(&fd);
}

int ds_images_seal(int fd, struct ds_error *err)
{
	char path[64];
	int reader;

	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0)
		return ds_fail(err, -errno, "sealing the image against writing: %s", strerror(errno));
	/* A kernel that does not know F_SEAL_EXEC refuses the whole call, so it has one of its own. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_EXEC) < 0 && errno != EINVAL)
		return ds_fail(err, -errno, "sealing the mode of the image: %s", strerror(errno));
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) < 0)
		return ds_fail(err, -errno, "sealing the seals of the image: %s", strerror(errno));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY | O_CLOEXEC);
	if (reader < 0)
		return ds_fail(err, -errno, "reopening the image read-only: %s", strerror(errno));
	return reader;
}

/* What the kernel says could be used without swapping; 0 when it does not say. */
static uint64_t available_memory(void)
{
	ds_cleanup(ds_closep) int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	char text[1024];
	const char *line;
	ssize_t n;

	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	line = strstr(text, "MemAvailable:");
	return line ? strtoull(line + strlen("MemAvailable:"), NULL, 10) * 1024 : 0;
}

struct ds_memory_need ds_images_need(const struct ds_plan *plan, uint64_t context, uint64_t parallel)
{
	struct ds_memory_need need = {
		.image = plan->image_size,
		.scratch = plan->scratch_size,
		.mapped = plan->mapped_size,
		.context = context,
		.parallel = parallel,
	};

	if (__builtin_mul_overflow(context, need.parallel, &need.kv) ||
	    __builtin_mul_overflow(need.kv, plan->kv_size_per_token, &need.kv))
		need.kv = UINT64_MAX;
	return need;
}

uint64_t ds_memory_need_sum(const struct ds_memory_need *need)
{
	uint64_t sum;

	return __builtin_add_overflow(need->image, need->kv, &sum) || __builtin_add_overflow(sum, need->scratch, &sum)
		       ? UINT64_MAX
		       : sum;
}

/* "it needs 5.0 GiB of memory (weights 3.0 GiB, ...)". */
static void format_need(char *out, size_t size, const struct ds_memory_need *need)
{
	char sum[32], image[32], mapped[32], kv[32], scratch[32];

	snprintf(out, size, "it needs %s of memory (weights %s%s%s, KV cache of %llu x %llu tokens %s, scratch %s)",
		 ds_units_format_size(sum, ds_memory_need_sum(need)), ds_units_format_size(image, need->image),
		 need->mapped ? " besides mapped " : "", need->mapped ? ds_units_format_size(mapped, need->mapped) : "",
		 (unsigned long long)need->parallel, (unsigned long long)need->context,
		 ds_units_format_size(kv, need->kv), ds_units_format_size(scratch, need->scratch));
}

int ds_images_check_memory(const struct ds_memory_need *need, bool present, uint64_t held, uint64_t limit,
			   struct ds_error *err)
{
	uint64_t size = ds_memory_need_sum(need), left = limit > held ? limit - held : 0;
	uint64_t available = available_memory();
	char text[192], all[32], taken[32];

	format_need(text, sizeof(text), need);
	if (size > left)
		return ds_fail(err, -ENOMEM, "%s; limits.memory is %s, of which other models hold %s", text,
			       ds_units_format_size(all, limit), ds_units_format_size(taken, held));
	if (available && size - (present ? need->image : 0) > available)
		return ds_fail(err, -ENOMEM, "%s; the machine has %s available", text,
			       ds_units_format_size(all, available));
	return 0;
}
