/* memory.h - what memory the machine has. */
#pragma once

/* Bytes that can be had without swapping, as the kernel estimates it; 0: it does not say. */
double ds_memory_available(void);
