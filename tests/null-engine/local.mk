# Stand-ins for ds-loader and ds-engine, for tests of the broker (deepseekd --libexec-dir).
check_PROGRAMS += tests/null-engine/ds-loader tests/null-engine/ds-engine

tests_null_engine_ds_loader_SOURCES = tests/null-engine/loader.c tests/null-engine/null.h
tests_null_engine_ds_loader_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/lib $(JANSSON_CFLAGS)
tests_null_engine_ds_loader_LDADD = lib/libds.a $(JANSSON_LIBS)

tests_null_engine_ds_engine_SOURCES = tests/null-engine/engine.c tests/null-engine/null.h
tests_null_engine_ds_engine_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/lib $(JANSSON_CFLAGS)
tests_null_engine_ds_engine_LDADD = lib/libds.a $(JANSSON_LIBS)
