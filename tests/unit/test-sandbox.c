/* test-sandbox.c - what entering takes away, and that it is refused while there is a second thread.
 *
 * Each test is a child of its own: there is no way back out. */
#include "sandbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Run @test in a child; it returns the line that was not as expected, 0 if all were. */
static int in_child(int (*test)(void))
{
	pid_t child = fork();
	int status = -1;

	if (child == 0)
		_exit(test());
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

#define EXPECT(condition)                                                                                              \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			return __LINE__ % 250 + 1;                                                                     \
	} while (0)

static int enter(void)
{
	struct ds_error err = {""};
	struct rlimit core;
	char filter[32] = "";
	FILE *f;

	EXPECT(ds_sandbox_prepare(&err) == 0);
	f = fopen("/proc/self/coredump_filter", "re");
	EXPECT(ds_sandbox_enter(DS_SANDBOX_ENGINE, &err) == 0);
	EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	EXPECT(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0 && core.rlim_max == 0);
	EXPECT(!f || (fgets(filter, sizeof(filter), f) && strtoul(filter, NULL, 16) == 0));
	return 0;
}

static void entering_takes_privileges_and_core_dumps_away(void **state)
{
	assert_int_equal(in_child(enter), 0);
}

static int prepare(void)
{
	EXPECT(setenv("OPENBLAS_NUM_THREADS", "8", 1) == 0);
	EXPECT(ds_sandbox_prepare(NULL) == 0);
	EXPECT(strcmp(getenv("OPENBLAS_NUM_THREADS"), "1") == 0);
	EXPECT(strcmp(getenv("OMP_NUM_THREADS"), "1") == 0);
	return 0;
}

static void libraries_are_told_to_start_no_threads(void **state)
{
	assert_int_equal(in_child(prepare), 0);
}

static void *wait_for_ever(void *arg)
{
	pause();
	return NULL;
}

static int enter_with_a_thread(void)
{
	int before = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	struct ds_error err = {""};
	pthread_t thread;

	EXPECT(pthread_create(&thread, NULL, wait_for_ever, NULL) == 0);
	EXPECT(ds_sandbox_enter(DS_SANDBOX_ENGINE, &err) == -EBUSY);
	EXPECT(strstr(err.text, " threads after opening its plugins"));
	EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == before);
	return 0;
}

static void a_second_thread_would_stay_outside(void **state)
{
	assert_int_equal(in_child(enter_with_a_thread), 0);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	return 77; /* its runtime has a thread of its own, now and then */
#endif
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entering_takes_privileges_and_core_dumps_away),
		cmocka_unit_test(libraries_are_told_to_start_no_threads),
		cmocka_unit_test(a_second_thread_would_stay_outside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
