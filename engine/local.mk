# ds-engine: everything but main.c is in a library, so that tests can link it.
noinst_LIBRARIES += engine/libengine.a
engine_libengine_a_SOURCES = \
	engine/answer.c engine/answer.h \
	engine/bench.c engine/bench.h \
	engine/arch/arch.h engine/arch/bind.c engine/arch/deepseek.c engine/arch/llama.c \
	engine/arch/rope.c engine/arch/rope.h engine/arch/trunk.c engine/arch/trunk.h \
	engine/chain.c engine/chain.h \
	engine/choice.c engine/choice.h \
	engine/compute.c engine/compute.h \
	engine/engine.c engine/engine.h \
	engine/failure.c engine/failure.h \
	engine/huge.c engine/huge.h \
	engine/intake.c engine/intake.h \
	engine/kv.c engine/kv.h \
	engine/outbox.c engine/outbox.h \
	engine/prompt.c engine/prompt.h \
	engine/schedule.c engine/schedule.h \
	engine/sequence.c engine/sequence.h \
	engine/serve.c engine/serve.h \
	engine/settings.c engine/settings.h \
	engine/stops.c engine/stops.h \
	engine/work.c engine/work.h
engine_cppflags = $(AM_CPPFLAGS) $(JANSSON_CFLAGS) -I$(top_srcdir)/lib -I$(top_srcdir)/engine
engine_libraries = engine/libengine.a lib/libdsplugins.a lib/libds.a
engine_libengine_a_CPPFLAGS = $(engine_cppflags)
# For `omp simd`, without OpenMP's threads; comparisons become vectors only if no trap is awaited.
engine_libengine_a_CFLAGS = $(AM_CFLAGS) -fopenmp-simd -fno-trapping-math

helper_PROGRAMS += engine/ds-engine
engine_ds_engine_SOURCES = engine/main.c
engine_ds_engine_CPPFLAGS = $(engine_cppflags)
engine_ds_engine_LDADD = $(engine_libraries) $(JANSSON_LIBS) $(SECCOMP_LIBS)
