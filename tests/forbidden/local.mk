# What the sandboxes of the helpers refuse; tests/integration/test_sandbox.py runs it. Built by `make`, for it is needed
# beside the stage.
noinst_PROGRAMS += tests/forbidden/forbidden
tests_forbidden_forbidden_SOURCES = tests/forbidden/forbidden.c
tests_forbidden_forbidden_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/lib -I$(top_srcdir)/daemon
tests_forbidden_forbidden_LDADD = daemon/libdaemon.a lib/libds.a $(SECCOMP_LIBS)
