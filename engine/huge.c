/* huge.c - MADV_COLLAPSE, piece by piece. A kernel or a machine that cannot do it is no reason to stop. */
#include "huge.h"
#include "plugins.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <syslog.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_PAGE (2ull << 20)
#define MAX_FAILURES 64 /* in a row: then there is no memory in such pieces, and no use in asking on */

struct ds_huge {
	pthread_t thread;
	atomic_bool quit;
	const struct ds_image *image;
};

/* All of @image, until *@quit (NULL: to the end). */
static void collapse(const struct ds_image *image, const atomic_bool *quit)
{
	uint64_t size, done = 0, n_failed = 0, in_a_row = 0;
	uint8_t *data = (uint8_t *)(uintptr_t)ds_image_data(image, &size);

	while (done + HUGE_PAGE <= size && !(quit && atomic_load(quit))) {
		bool failed = madvise(data + done, HUGE_PAGE, MADV_COLLAPSE) < 0;

		in_a_row = failed ? in_a_row + 1 : 0;
		n_failed += failed;
		if (failed && (errno == EINVAL || in_a_row == MAX_FAILURES)) {
			ds_plugins_host()->log(LOG_INFO, "no huge pages for the image from byte %llu on: %s",
					       (unsigned long long)done, strerror(errno));
			return;
		}
		done += HUGE_PAGE;
	}
	if (n_failed > 0)
		ds_plugins_host()->log(LOG_INFO, "no huge pages for %llu MiB of the image",
				       (unsigned long long)n_failed * HUGE_PAGE >> 20);
}

void ds_huge_collapse(const struct ds_image *image)
{
	collapse(image, NULL);
}

static void *run(void *self)
{
	struct ds_huge *huge = self;

	/* Linux: a thread has its own nice value. Without it the work is the same, only less polite. */
	if (setpriority(PRIO_PROCESS, 0, 19) < 0)
		ds_plugins_host()->log(LOG_DEBUG, "the image is collapsed at ordinary priority: %s", strerror(errno));
	collapse(huge->image, &huge->quit);
	return NULL;
}

struct ds_huge *ds_huge_new(const struct ds_image *image)
{
	struct ds_huge *huge = calloc(1, sizeof(*huge));

	if (!huge)
		return NULL;
	huge->image = image;
	if (pthread_create(&huge->thread, NULL, run, huge) != 0) {
		free(huge);
		return NULL;
	}
	return huge;
}

struct ds_huge *ds_huge_free(struct ds_huge *huge)
{
	if (!huge)
		return NULL;
	atomic_store(&huge->quit, true);
	pthread_join(huge->thread, NULL);
	free(huge);
	return NULL;
}
