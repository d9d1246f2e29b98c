/* kernels-inline.h - how the small functions that kernels are made of become one loop.
 *
 * The files of the instruction sets are written as if functions cost nothing: arguments that are constants where a
 * function is called choose what is left of it. */
#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* Instrumented code is not for speed, and unrolled it takes minutes to compile. */
#if defined(SANITIZED)
#define ALWAYS_INLINE __attribute__((unused))
#define UNROLL
#elif defined(__clang__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")
#endif
