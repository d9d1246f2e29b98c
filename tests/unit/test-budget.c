/* test-budget.c - what the kernel says is left, read from a made-up root; and the context that fits. */
#include "../../daemon/budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>
#include <sys/stat.h>

#define MIB (1ull << 20)

static char root[64];

static int setup(void **state)
{
	snprintf(root, sizeof(root), "/tmp/test-budget-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

/* The file @path of the root, and the folders above it. */
static void put(const char *path, const char *text)
{
	char whole[512];
	FILE *f;

	snprintf(whole, sizeof(whole), "%s%s", root, path);
	for (char *slash = strchr(whole + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(whole, 0700);
		*slash = '/';
	}
	f = fopen(whole, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void put_machine(void)
{
	put("/proc/meminfo", "MemTotal:       4096 kB\nMemFree:         512 kB\nMemAvailable:   2048 kB\nBuffers: 1 kB\n");
}

static void nothing_is_known_where_the_kernel_says_nothing(void **state)
{
	assert_int_equal(ds_budget_available(root), 0);
	put("/proc/meminfo", "MemTotal: 4096 kB\n");
	assert_int_equal(ds_budget_available(root), 0);
}

static void the_machine_counts_where_no_group_has_a_limit(void **state)
{
	put_machine();
	assert_int_equal(ds_budget_available(root), 2048 << 10);
	put("/proc/self/cgroup", "0::/a/b\n");
	assert_int_equal(ds_budget_available(root), 2048 << 10);
	put("/sys/fs/cgroup/a/b/memory.max", "max\n");
	put("/sys/fs/cgroup/a/b/memory.current", "1000000\n");
	assert_int_equal(ds_budget_available(root), 2048 << 10);
	put("/proc/self/cgroup", "4:memory:/a\n");
	put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1000000\n");
	assert_int_equal(ds_budget_available(root), 2048 << 10);
}

static void a_group_of_version_2_leaves_its_limit_less_what_cannot_be_taken_back(void **state)
{
	put_machine();
	put("/proc/self/cgroup", "0::/system.slice/deepseekd.service\n");
	put("/sys/fs/cgroup/system.slice/deepseekd.service/memory.max", "1048576\n");
	put("/sys/fs/cgroup/system.slice/deepseekd.service/memory.current", "600000\n");
	assert_int_equal(ds_budget_available(root), 448576);
	put("/sys/fs/cgroup/system.slice/deepseekd.service/memory.stat",
	    "anon 1\nfile 500000\nactive_file 100000\ninactive_file 200000\nunevictable 0\n");
	assert_int_equal(ds_budget_available(root), 748576);
}

static void the_tightest_of_the_groups_above_counts(void **state)
{
	put_machine();
	put("/proc/self/cgroup", "0::/system.slice/deepseekd.service\n");
	put("/sys/fs/cgroup/system.slice/deepseekd.service/memory.max", "1048576\n");
	put("/sys/fs/cgroup/system.slice/deepseekd.service/memory.current", "0\n");
	put("/sys/fs/cgroup/system.slice/memory.max", "524288\n");
	put("/sys/fs/cgroup/system.slice/memory.current", "100000\n");
	assert_int_equal(ds_budget_available(root), 424288);
	/* a container that shows its own group as the root */
	put("/sys/fs/cgroup/memory.max", "400000\n");
	put("/sys/fs/cgroup/memory.current", "400001\n");
	assert_int_equal(ds_budget_available(root), 1);
}

static void version_1_is_found_among_its_controllers(void **state)
{
	put_machine();
	put("/proc/self/cgroup", "12:cpu,cpuacct:/x\n3:memoryless:/y\n5:hugetlb,memory:/docker/1\n1:name=systemd:/z\n0::/\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000\n");
	put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "300000\n");
	put("/sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 50000\ntotal_active_file 50000\n");
	assert_int_equal(ds_budget_available(root), 800000);
	put("/sys/fs/cgroup/memory/y/memory.limit_in_bytes", "1\n");
	put("/sys/fs/cgroup/memory/y/memory.usage_in_bytes", "1\n");
	assert_int_equal(ds_budget_available(root), 800000);
	put("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "500000\n");
	put("/sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes", "1\n");
	assert_int_equal(ds_budget_available(root), 499999);
}

static void lines_that_are_none_are_passed_over(void **state)
{
	put_machine();
	put("/proc/self/cgroup", "nothing\n\n::\n1\n2:memory\n0::");
	assert_int_equal(ds_budget_available(root), 2048 << 10);
}

static struct ds_plan plan(void)
{
	return (struct ds_plan){.weights_size = 100 * MIB,
				.image_size = 100 * MIB,
				.scratch_size = 10 * MIB,
				.kv_size_per_token = 1024,
				.context = 131072};
}

static void the_context_that_fits_is_whole_pages(void **state)
{
	const struct ds_plan p = plan();
	struct ds_budget_ask ask = {.plan = &p, .parallel = 4, .limit = 1024 * MIB, .held = 314 * MIB};
	struct ds_budget_need need;

	assert_int_equal(ds_budget_grant(&need, &ask, 0, NULL), 0);
	assert_int_equal(need.context, 600 * MIB / 4096 < p.context ? 600 * MIB / 4096 : p.context);
	ask.parallel = 16;
	assert_int_equal(ds_budget_grant(&need, &ask, 0, NULL), 0);
	assert_int_equal(need.context, 600 * MIB / (16 * 1024) / 16 * 16);
	assert_int_equal(ds_budget_need_sum(&need), 110 * MIB + need.context * 16 * 1024);
}

static void of_what_is_available_a_fifth_stays_for_others(void **state)
{
	const struct ds_plan p = plan();
	struct ds_budget_ask ask = {.plan = &p, .parallel = 16, .limit = UINT64_MAX};
	struct ds_budget_need need;

	assert_int_equal(ds_budget_grant(&need, &ask, 600 * MIB, NULL), 0);
	assert_int_equal(need.context, (400 - 10) * MIB / (16 * 1024) / 16 * 16);
	ask.present = true;
	assert_int_equal(ds_budget_grant(&need, &ask, 500 * MIB, NULL), 0);
	assert_int_equal(need.context, (400 - 10) * MIB / (16 * 1024) / 16 * 16);
}

static void less_than_4096_tokens_are_refused_unless_the_model_has_no_more(void **state)
{
	struct ds_plan p = plan();
	struct ds_budget_ask ask = {.plan = &p, .parallel = 1, .limit = 112 * MIB};
	struct ds_budget_need need = {.context = 7};
	struct ds_error err;

	assert_int_equal(ds_budget_grant(&need, &ask, 0, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "KV cache of 1 x 4096 tokens 4.0 MiB"));
	assert_int_equal(need.context, 7);
	p.context = 2048;
	assert_int_equal(ds_budget_grant(&need, &ask, 0, &err), 0);
	assert_int_equal(need.context, 2048);
	ask.limit = 114 * MIB;
	p.context = 131072;
	assert_int_equal(ds_budget_grant(&need, &ask, 0, &err), 0);
	assert_int_equal(need.context, 4096);
}

static void a_configured_context_is_taken_or_refused(void **state)
{
	const struct ds_plan p = plan();
	struct ds_budget_ask ask = {.plan = &p, .context = 1000, .parallel = 1, .limit = 112 * MIB};
	struct ds_budget_need need;
	struct ds_error err;

	assert_int_equal(ds_budget_grant(&need, &ask, 0, &err), 0);
	assert_int_equal(need.context, 1000);
	assert_int_equal(need.kv, 1008 * 1024); /* whole pages */
	ask.context = 3000;
	assert_int_equal(ds_budget_grant(&need, &ask, 0, &err), -ENOMEM);
	ask.context = 1000;
	assert_int_equal(ds_budget_grant(&need, &ask, 100 * MIB, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "100.0 MiB available"));
	ask.context = 1 << 30;
	ask.limit = UINT64_MAX;
	assert_int_equal(ds_budget_grant(&need, &ask, 0, &err), 0);
	assert_int_equal(need.context, p.context);
}

static void sizes_beyond_all_memory_are_refused(void **state)
{
	struct ds_plan p = plan();
	struct ds_budget_ask ask = {.plan = &p, .parallel = 256, .limit = 1024 * MIB};
	struct ds_budget_need need;
	struct ds_error err;

	p.kv_size_per_token = UINT64_MAX / 2;
	assert_int_equal(ds_budget_grant(&need, &ask, 0, &err), -ENOMEM);
	p.kv_size_per_token = 0;
	assert_int_equal(ds_budget_grant(&need, &ask, 0, &err), 0);
	assert_int_equal(need.context, p.context);
	p.scratch_size = UINT64_MAX;
	assert_int_equal(ds_budget_grant(&need, &ask, 0, &err), -ENOMEM);
	p.image_size = UINT64_MAX;
	assert_int_equal(ds_budget_grant(&need, &ask, 0, &err), -ENOMEM);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(nothing_is_known_where_the_kernel_says_nothing),
		T(the_machine_counts_where_no_group_has_a_limit),
		T(a_group_of_version_2_leaves_its_limit_less_what_cannot_be_taken_back),
		T(the_tightest_of_the_groups_above_counts),
		T(version_1_is_found_among_its_controllers),
		T(lines_that_are_none_are_passed_over),
		cmocka_unit_test(the_context_that_fits_is_whole_pages),
		cmocka_unit_test(of_what_is_available_a_fifth_stays_for_others),
		cmocka_unit_test(less_than_4096_tokens_are_refused_unless_the_model_has_no_more),
		cmocka_unit_test(a_configured_context_is_taken_or_refused),
		cmocka_unit_test(sizes_beyond_all_memory_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
