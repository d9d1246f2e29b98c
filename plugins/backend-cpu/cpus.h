/* cpus.h - how many CPUs this process may use. */
#pragma once

/* CPUs in the affinity mask of the calling thread, at least 1. */
unsigned ds_cpus_allowed(void);

/* Whole CPUs that the CPU quota of the process's control groups pays for, at least 1; UINT_MAX without a quota.
 * @root is "" but in tests; files that are missing set no limit. */
unsigned ds_cpus_quota(const char *root);

/* The smaller of both. */
unsigned ds_cpus_usable(void);
