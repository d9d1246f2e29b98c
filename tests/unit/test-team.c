/* test-team.c - threads that share work, and how many of them there should be. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "plugins/backend-cpu/cpus.h"
#include "plugins/backend-cpu/team.h"

enum { MAX_PIECES = 1000 };

struct counts {
	unsigned done[MAX_PIECES]; /* not atomic: each piece belongs to one member */
	unsigned n_members;
	size_t most; /* pieces at once */
	_Atomic unsigned n_wrong;
};

static void count(void *arg, size_t first, size_t last, unsigned member)
{
	struct counts *c = arg;

	if (member >= c->n_members || last <= first || last - first > c->most)
		atomic_fetch_add(&c->n_wrong, 1);
	for (size_t i = first; i < last; i++)
		c->done[i]++;
}

static void every_piece_is_done_once(void **state)
{
	static const size_t sizes[] = {0, 1, 2, 3, 10, 999, MAX_PIECES}, chunks[] = {1, 2, 7, 1000, SIZE_MAX / 2};

	for (unsigned n_members = 1; n_members <= 5; n_members++) {
		ds_cleanup(ds_team_freep) struct ds_team *team = NULL;

		assert_int_equal(ds_team_new(&team, n_members, 3, NULL), 0);
		assert_int_equal(ds_team_size(team), n_members);
		for (size_t s = 0; s < DS_ARRAY_SIZE(sizes); s++)
			for (size_t k = 0; k < DS_ARRAY_SIZE(chunks); k++) {
				size_t share = sizes[s] / n_members / 8;
				struct counts c = {.n_members = n_members, .most = chunks[k] > share ? chunks[k] : share};

				ds_team_run(team, sizes[s], chunks[k], count, &c);
				for (size_t i = 0; i < MAX_PIECES; i++)
					assert_int_equal(c.done[i], i < sizes[s]);
				assert_int_equal(c.n_wrong, 0);
			}
	}
}

static void what_one_job_wrote_the_next_one_reads(void **state)
{
	ds_cleanup(ds_team_freep) struct ds_team *team = NULL;
	struct counts c = {.n_members = 3, .most = 3};

	assert_int_equal(ds_team_new(&team, 3, 3, NULL), 0);
	for (unsigned i = 1; i <= 3000; i++) {
		ds_team_run(team, 50, 3, count, &c);
		assert_int_equal(c.done[i % 50], i);
	}
	assert_int_equal(c.n_wrong, 0);
}

static void a_team_that_fell_asleep_wakes_up(void **state)
{
	ds_cleanup(ds_team_freep) struct ds_team *team = NULL;
	struct counts c = {.n_members = 2, .most = 100 / 2 / 8};

	assert_int_equal(ds_team_new(&team, 2, 2, NULL), 0);
	for (unsigned i = 1; i <= 5; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
		ds_team_run(team, 100, 1, count, &c);
		for (size_t p = 0; p < 100; p++)
			assert_int_equal(c.done[p], i);
	}
}

static void slow_piece(void *arg, size_t first, size_t last, unsigned member)
{
	_Atomic unsigned *n_done = arg;

	if (first == 0)
		nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
	atomic_fetch_add(n_done, (unsigned)(last - first));
}

static void a_slow_member_is_waited_for_and_its_share_is_done_by_others(void **state)
{
	ds_cleanup(ds_team_freep) struct ds_team *team = NULL;
	_Atomic unsigned n_done = 0;

	assert_int_equal(ds_team_new(&team, 2, 2, NULL), 0);
	ds_team_run(team, 100, 1, slow_piece, &n_done);
	assert_int_equal(n_done, 100);
}

static void a_team_of_nobody_is_refused(void **state)
{
	struct ds_team *team = NULL;
	struct ds_error err;

	assert_int_equal(ds_team_new(&team, 0, 1, &err), -EINVAL);
	assert_null(team);
	assert_non_null(strstr(err.text, "0 threads"));
	assert_null(ds_team_free(NULL));
}

/* A file system of its own for each test, below a directory that is removed at the end. */
static int make_root(void **state)
{
	static char root[] = "/tmp/deepseekd-cpus-XXXXXX";

	strcpy(root + sizeof(root) - 7, "XXXXXX");
	*state = mkdtemp(root);
	return *state ? 0 : -1;
}

static int remove_root(void **state)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -r '%s'", (char *)*state);
	return system(command);
}

static void put(const char *root, const char *path, const char *text)
{
	char full[256];
	FILE *file;

	snprintf(full, sizeof(full), "%s", root);
	for (const char *p = path; p; p = strchr(p + 1, '/')) {
		const char *next = strchr(p + 1, '/');

		snprintf(full + strlen(root), sizeof(full) - strlen(root), "%.*s",
			 (int)(next ? next - path : (ptrdiff_t)strlen(path)), path);
		if (next)
			mkdir(full, 0755);
	}
	file = fopen(full, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void without_groups_there_is_no_quota(void **state)
{
	assert_int_equal(ds_cpus_quota(*state), UINT_MAX);
	put(*state, "/proc/self/cgroup", "nonsense\n0::/a\n");
	assert_int_equal(ds_cpus_quota(*state), UINT_MAX);
}

static void the_smallest_quota_above_a_group_holds(void **state)
{
	put(*state, "/proc/self/cgroup", "0::/system.slice/ours\n");
	put(*state, "/sys/fs/cgroup/system.slice/ours/cpu.max", "max 100000\n");
	assert_int_equal(ds_cpus_quota(*state), UINT_MAX);
	put(*state, "/sys/fs/cgroup/system.slice/cpu.max", "350000 100000\n");
	assert_int_equal(ds_cpus_quota(*state), 3);
	put(*state, "/sys/fs/cgroup/system.slice/ours/cpu.max", "50000 100000\n");
	assert_int_equal(ds_cpus_quota(*state), 1);
}

static void in_a_container_the_mount_is_the_group(void **state)
{
	put(*state, "/proc/self/cgroup", "0::/seen/from/outside\n");
	put(*state, "/sys/fs/cgroup/cpu.max", "200000 100000\n");
	assert_int_equal(ds_cpus_quota(*state), 2);
}

static void the_first_version_of_groups_has_quotas_too(void **state)
{
	put(*state, "/proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/ours\n1:name=systemd:/ours\n");
	put(*state, "/sys/fs/cgroup/cpu/ours/cpu.cfs_quota_us", "-1\n");
	put(*state, "/sys/fs/cgroup/cpu/ours/cpu.cfs_period_us", "100000\n");
	assert_int_equal(ds_cpus_quota(*state), UINT_MAX);
	put(*state, "/sys/fs/cgroup/cpu/ours/cpu.cfs_quota_us", "400000\n");
	assert_int_equal(ds_cpus_quota(*state), 4);
}

static void there_is_a_cpu_to_run_on(void **state)
{
	assert_true(ds_cpus_allowed() >= 1);
	assert_true(ds_cpus_quota("") >= 1);
	assert_true(ds_cpus_usable() >= 1 && ds_cpus_usable() <= ds_cpus_allowed());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_piece_is_done_once),
		cmocka_unit_test(what_one_job_wrote_the_next_one_reads),
		cmocka_unit_test(a_team_that_fell_asleep_wakes_up),
		cmocka_unit_test(a_slow_member_is_waited_for_and_its_share_is_done_by_others),
		cmocka_unit_test(a_team_of_nobody_is_refused),
		cmocka_unit_test_setup_teardown(without_groups_there_is_no_quota, make_root, remove_root),
		cmocka_unit_test_setup_teardown(the_smallest_quota_above_a_group_holds, make_root, remove_root),
		cmocka_unit_test_setup_teardown(in_a_container_the_mount_is_the_group, make_root, remove_root),
		cmocka_unit_test_setup_teardown(the_first_version_of_groups_has_quotas_too, make_root, remove_root),
		cmocka_unit_test(there_is_a_cpu_to_run_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
