/* budget.c - accounts of memory: needs, the context that fits, and what the kernel says is left. */
#include "budget.h"
#include "units.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

#define CONTEXT_LEAST 4096 /* tokens; with fewer a model is of no use for what people do */

uint64_t ds_budget_need_sum(const struct ds_budget_need *need)
{
	uint64_t sum;

	return __builtin_add_overflow(need->image, need->kv, &sum) || __builtin_add_overflow(sum, need->scratch, &sum)
		       ? UINT64_MAX
		       : sum;
}

/* "it needs 5.0 GiB of memory (weights 3.0 GiB, ...)". */
static void format_need(char *out, size_t size, const struct ds_budget_need *need)
{
	char sum[32], image[32], mapped[32], kv[32], scratch[32];

	snprintf(out, size, "it needs %s of memory (weights %s%s%s, KV cache of %llu x %llu tokens %s, scratch %s)",
		 ds_units_format_size(sum, ds_budget_need_sum(need)), ds_units_format_size(image, need->image),
		 need->mapped ? " besides mapped " : "", need->mapped ? ds_units_format_size(mapped, need->mapped) : "",
		 (unsigned long long)need->parallel, (unsigned long long)need->context,
		 ds_units_format_size(kv, need->kv), ds_units_format_size(scratch, need->scratch));
}

static int check(const struct ds_budget_need *need, const struct ds_budget_ask *ask, uint64_t available,
		 struct ds_error *err)
{
	uint64_t size = ds_budget_need_sum(need), left = ask->limit > ask->held ? ask->limit - ask->held : 0;
	char text[192], all[32], taken[32];

	format_need(text, sizeof(text), need);
	if (size > left)
		return ds_fail(err, -ENOMEM, "%s; limits.memory is %s, of which other models hold %s", text,
			       ds_units_format_size(all, ask->limit), ds_units_format_size(taken, ask->held));
	if (available && size - (ask->present ? need->image : 0) > available)
		return ds_fail(err, -ENOMEM, "%s; the machine has %s available", text,
			       ds_units_format_size(all, available));
	return 0;
}

/* Bytes of a page of KV cache for each of the parallel texts. UINT64_MAX: more than that. */
static uint64_t page_size(const struct ds_budget_ask *ask)
{
	uint64_t size;

	return __builtin_mul_overflow(ask->parallel, ask->plan->kv_size_per_token, &size) ||
			       __builtin_mul_overflow(size, DS_KV_PAGE_TOKENS, &size)
		       ? UINT64_MAX
		       : size;
}

/* Tokens of the KV cache that fit beside all else. Four fifths of what is available: the pages of a cache fill up in time,
 * and the machine has more to do than this. */
static uint64_t fitting(const struct ds_budget_ask *ask, uint64_t available)
{
	uint64_t own = ask->plan->context, least = own < CONTEXT_LEAST ? own : CONTEXT_LEAST, n, size = page_size(ask);
	uint64_t rest = ask->limit > ask->held ? ask->limit - ask->held : 0;
	uint64_t image = ask->present ? 0 : ask->plan->image_size;

	rest = rest > ask->plan->image_size ? rest - ask->plan->image_size : 0;
	if (available) {
		uint64_t usable = available > image ? (available - image) / 5 * 4 : 0;

		rest = usable < rest ? usable : rest;
	}
	rest = rest > ask->plan->scratch_size ? rest - ask->plan->scratch_size : 0;
	n = size ? rest / size : UINT64_MAX / DS_KV_PAGE_TOKENS;
	n *= DS_KV_PAGE_TOKENS;
	return n < least ? least : n < own ? n : own;
}

int ds_budget_grant(struct ds_budget_need *need, const struct ds_budget_ask *ask, uint64_t available,
		    struct ds_error *err)
{
	uint64_t own = ask->plan->context, context = ask->context < own ? ask->context : own, pages;
	struct ds_budget_need n = {
		.image = ask->plan->image_size,
		.scratch = ask->plan->scratch_size,
		.mapped = ask->plan->mapped_size,
		.parallel = ask->parallel,
		.context = ask->context ? context : fitting(ask, available),
	};
	int r;

	pages = n.context / DS_KV_PAGE_TOKENS + (n.context % DS_KV_PAGE_TOKENS != 0);
	if (__builtin_mul_overflow(pages, page_size(ask), &n.kv))
		n.kv = UINT64_MAX;
	r = check(&n, ask, available, err);
	if (r == 0)
		*need = n;
	return r;
}

/* The beginning of the file @path, its last part @name, as text. False: it cannot be read. */
static bool read_text(char *out, size_t size, const char *path, const char *name)
{
	ds_cleanup(ds_closep) int fd = -1;
	char whole[PATH_MAX];
	size_t n = 0;
	ssize_t got;

	if (snprintf(whole, sizeof(whole), "%s%s", path, name) >= (int)sizeof(whole))
		return false;
	fd = open(whole, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && n < size - 1 && (got = read(fd, out + n, size - 1 - n)) > 0)
		n += (size_t)got;
	out[n] = '\0';
	return n > 0;
}

/* The number after the line's beginning @key in @text; 0: there is none. */
static uint64_t line_number(const char *text, const char *key)
{
	size_t size = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n'), line += line != NULL)
		if (strncmp(line, key, size) == 0)
			return strtoull(line + size, NULL, 10);
	return 0;
}

/* The names of the two versions of control groups. */
struct version {
	const char *mount, *max, *used, *inactive, *active;
};

static const struct version versions[] = {
	{"/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file ", "total_active_file "},
	{"/sys/fs/cgroup", "/memory.max", "/memory.current", "inactive_file ", "active_file "},
};

/* What the group @path leaves: its limit less what is used, cached files not counted, which the kernel can take back.
 * UINT64_MAX: it has no limit. */
static uint64_t group_available(const struct version *v, const char *path)
{
	char max[64], used[64], stat[8192];
	uint64_t limit, taken, cached;

	/* Version 2 says "max", version 1 a number near 2^63. */
	if (!read_text(max, sizeof(max), path, v->max) || !strncmp(max, "max", 3) ||
	    !read_text(used, sizeof(used), path, v->used))
		return UINT64_MAX;
	limit = strtoull(max, NULL, 10);
	taken = strtoull(used, NULL, 10);
	cached = 0;
	if (read_text(stat, sizeof(stat), path, "/memory.stat"))
		cached = line_number(stat, v->inactive) + line_number(stat, v->active);
	taken = taken > cached ? taken - cached : 0;
	if (limit >= INT64_MAX / 2)
		return UINT64_MAX;
	return limit > taken ? limit - taken : 0;
}

/* The tightest of @group and all groups above it. Where a container shows its own group as the root, the path that /proc
 * names is not there: then only those of its ancestors count that are. */
static uint64_t tightest(const char *root, const struct version *v, const char *group)
{
	uint64_t least = UINT64_MAX;
	char path[PATH_MAX];
	size_t mount = (size_t)snprintf(path, sizeof(path), "%s%s", root, v->mount);

	if (mount >= sizeof(path) || (size_t)snprintf(path + mount, sizeof(path) - mount, "%s", group) >= sizeof(path) - mount)
		return least;
	for (;;) {
		uint64_t here = group_available(v, path);
		char *slash = strrchr(path + mount, '/');

		least = here < least ? here : least;
		if (!slash)
			return least;
		*slash = '\0';
	}
}

/* A line of /proc/self/cgroup is NUMBER:CONTROLLERS:PATH, version 2's with no controllers. */
static const struct version *version_of(const char *controllers)
{
	static const char memory[] = "memory";

	if (*controllers == ':')
		return &versions[1];
	for (const char *name = controllers; *name && *name != ':'; name += *name == ',') {
		size_t size = strcspn(name, ",:");

		if (size == strlen(memory) && !memcmp(name, memory, size))
			return &versions[0];
		name += size;
	}
	return NULL;
}

static uint64_t groups_available(const char *root)
{
	uint64_t least = UINT64_MAX;
	char text[8192], *line = text;

	if (!read_text(text, sizeof(text), root, "/proc/self/cgroup"))
		return least;
	for (char *next; line && *line; line = next) {
		char *controllers = strchr(line, ':'), *group;
		const struct version *v;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		group = controllers ? strchr(controllers + 1, ':') : NULL;
		v = group ? version_of(controllers + 1) : NULL;
		if (v) {
			uint64_t here = tightest(root, v, group + 1);

			least = here < least ? here : least;
		}
	}
	return least;
}

uint64_t ds_budget_available(const char *root)
{
	uint64_t groups = groups_available(root), machine = 0;
	char text[2048];

	if (read_text(text, sizeof(text), root, "/proc/meminfo"))
		machine = line_number(text, "MemAvailable:") * 1024;
	if (groups == UINT64_MAX)
		return machine;
	/* 0 would mean that nothing is known. */
	groups = groups ? groups : 1;
	return machine && machine < groups ? machine : groups;
}
