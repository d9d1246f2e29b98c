/* each-isa.h - tests of the CPU backend with each instruction set that this CPU has. After cmocka.h. */
#pragma once

#include <stdlib.h>

#include "plugins/backend-cpu/kernels.h"

/* @run is called once for each, which DEEPSEEKD_CPU names. Returns how many tests failed. */
static inline int run_with_each(int (*run)(void))
{
	int failed = 0;

	for (enum ds_isa isa = DS_ISA_PORTABLE; isa < DS_ISA_COUNT; isa++) {
		if (!ds_isa_has(isa))
			continue;
		print_message("[ %s ]\n", ds_isa_name(isa));
		setenv("DEEPSEEKD_CPU", ds_isa_name(isa), 1);
		failed += run();
	}
	return failed;
}
