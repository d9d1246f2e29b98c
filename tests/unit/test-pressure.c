/* test-pressure.c - what systemd says of memory pressure is decoded, what is watched is heard, and kills are counted. */
#include "../../daemon/pressure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <event2/event.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static void the_trigger_is_base64(void **state)
{
	uint8_t out[32];

	assert_int_equal(ds_pressure_decode("c29tZSAyMDAwMDAgMjAwMDAwMAA=", out, sizeof(out)), 20);
	assert_string_equal((char *)out, "some 200000 2000000");
	assert_int_equal(ds_pressure_decode("QQ==", out, sizeof(out)), 1);
	assert_int_equal(out[0], 'A');
	assert_int_equal(ds_pressure_decode("/+8A", out, sizeof(out)), 3);
	assert_memory_equal(out, "\xff\xef\0", 3);
	assert_int_equal(ds_pressure_decode("", out, sizeof(out)), 0);
}

static void what_is_no_base64_is_refused(void **state)
{
	uint8_t out[32];

	assert_int_equal(ds_pressure_decode("c29t ZSAy", out, sizeof(out)), -EINVAL);
	assert_int_equal(ds_pressure_decode("QUJDR", out, sizeof(out)), -EINVAL);
	assert_int_equal(ds_pressure_decode("QQ==QQ==", out, sizeof(out)), -EINVAL);
	assert_int_equal(ds_pressure_decode("QUJD", out, 2), -EINVAL);
}

static void a_kill_for_memory_is_counted(void **state)
{
	char path[] = "/tmp/ds-vmstat-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	dprintf(fd, "nr_free_pages 12\noom_kill_disable 3\noom_kill 41\nswap_ra 0\n");
	close(fd);
	assert_int_equal(ds_pressure_oom_kills(path), 41);
	unlink(path);
	assert_int_equal(ds_pressure_oom_kills(path), 0);
}

static void count(void *arg)
{
	(*(int *)arg)++;
}

static void each_word_on_a_fifo_is_heard(void **state)
{
	char dir[] = "/tmp/ds-pressure-XXXXXX", path[64];
	struct event_base *base = event_base_new();
	struct ds_pressure *p = NULL;
	int n = 0, fd;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	setenv("MEMORY_PRESSURE_WATCH", path, 1);
	assert_int_equal(ds_pressure_new(&p, base, count, &n, NULL), 0);
	assert_non_null(p);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	for (int i = 1; i <= 2; i++) {
		assert_int_equal(write(fd, "x", 1), 1);
		event_base_loop(base, EVLOOP_ONCE);
		assert_int_equal(n, i);
	}
	close(fd);
	event_base_loop(base, EVLOOP_NONBLOCK);
	assert_int_equal(n, 2);
	ds_pressure_free(p);
	event_base_free(base);
	unlink(path);
	rmdir(dir);
}

static void the_null_device_turns_it_off(void **state)
{
	struct event_base *base = event_base_new();
	struct ds_pressure *p = NULL;
	int n = 0;

	setenv("MEMORY_PRESSURE_WATCH", "/dev/null", 1);
	assert_int_equal(ds_pressure_new(&p, base, count, &n, NULL), 0);
	assert_null(p);
	event_base_free(base);
}

/* Whatever this machine has, the daemon goes on. */
static void a_kernel_is_asked_without_systemd(void **state)
{
	struct event_base *base = event_base_new();
	struct ds_pressure *p = NULL;
	int n = 0;

	unsetenv("MEMORY_PRESSURE_WATCH");
	assert_int_equal(ds_pressure_new(&p, base, count, &n, NULL), 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
	ds_pressure_free(p);
	event_base_free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_trigger_is_base64),
		cmocka_unit_test(what_is_no_base64_is_refused),
		cmocka_unit_test(a_kill_for_memory_is_counted),
		cmocka_unit_test(each_word_on_a_fifo_is_heard),
		cmocka_unit_test(the_null_device_turns_it_off),
		cmocka_unit_test(a_kernel_is_asked_without_systemd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
