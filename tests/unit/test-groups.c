/* test-groups.c - each helper has a control group where one is delegated, and nowhere else. The tree is a folder with
 * ordinary files; what a kernel would do with what is written to them is not tested here. */
#include "../../daemon/groups.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static char root[64];

static const char *in_root(const char *name)
{
	static char path[2][PATH_MAX];
	static int i;

	i = !i;
	snprintf(path[i], sizeof(path[i]), "%s/%s", root, name);
	return path[i];
}

static void put(const char *name, const char *text)
{
	int fd = open(in_root(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static const char *get(const char *name)
{
	static char text[64];
	int fd = open(in_root(name), O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

static int setup(void **state)
{
	strcpy(root, "/var/tmp/ds-groups-XXXXXX");
	if (!mkdtemp(root) || mkdir(in_root("service"), 0700) < 0 || mkdir(in_root("service/broker"), 0700) < 0 ||
	    mkdir(in_root("service/ds-engine-77"), 0700) < 0)
		return -1;
	put("proc", "1:name=systemd:/other\n0::/service\n");
	put("service/cgroup.subtree_control", "");
	put("service/broker/cgroup.procs", "");
	put("service/ds-engine-77/cgroup.procs", "");
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r '%s'", root);
	return system(command);
}

static void delegate(void)
{
	if (setxattr(in_root("service"), "user.delegate", "1", 1, 0) < 0)
		skip(); /* a file system without attributes of users */
}

static void expect_groups(void)
{
	struct ds_groups *groups = NULL;
	char own[32];

	snprintf(own, sizeof(own), "%d", (int)getpid());
	assert_int_equal(ds_groups_new(&groups, in_root("proc"), root, NULL), 0);
	assert_non_null(groups);
	assert_string_equal(get("service/broker/cgroup.procs"), own);
	assert_string_not_equal(get("service/cgroup.subtree_control"), "");
	ds_groups_add(groups, "ds-engine", 77);
	assert_string_equal(get("service/ds-engine-77/cgroup.procs"), "77");
	unlink(in_root("service/ds-engine-77/cgroup.procs"));
	ds_groups_remove(groups, "ds-engine", 77);
	assert_int_equal(access(in_root("service/ds-engine-77"), F_OK), -1);
	ds_groups_free(groups);
}

static void a_delegated_group_is_divided(void **state)
{
	delegate();
	expect_groups();
}

static void whoever_was_put_below_it_finds_it(void **state)
{
	delegate();
	put("proc", "0::/service/broker\n");
	expect_groups();
}

static void what_is_not_delegated_is_left_alone(void **state)
{
	struct ds_groups *groups = NULL;

	assert_int_equal(ds_groups_new(&groups, in_root("proc"), root, NULL), 0);
	assert_null(groups);
	assert_string_equal(get("service/broker/cgroup.procs"), "");
	put("proc", "1:name=systemd:/service\n");
	assert_int_equal(ds_groups_new(&groups, in_root("proc"), root, NULL), 0);
	assert_null(groups);
	ds_groups_add(groups, "ds-engine", 77);
	ds_groups_remove(groups, "ds-engine", 77);
	assert_string_equal(get("service/ds-engine-77/cgroup.procs"), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_delegated_group_is_divided, setup, teardown),
		cmocka_unit_test_setup_teardown(whoever_was_put_below_it_finds_it, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_delegated_is_left_alone, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
