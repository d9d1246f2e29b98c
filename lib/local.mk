# What several executables share. libds.a is small enough for the broker: no parser of model files, no plugin code.
noinst_LIBRARIES += lib/libds.a lib/libdsplugins.a
lib_libds_a_SOURCES = \
	lib/dtype.h \
	lib/event.c lib/event.h \
	lib/files.c lib/files.h \
	lib/image-writer.c lib/image-writer.h \
	lib/image.c lib/image.h \
	lib/images.c lib/images.h \
	lib/kv-type.h \
	lib/landlock.c lib/landlock.h \
	lib/message.c lib/message.h \
	lib/sandbox.c lib/sandbox.h \
	lib/spawn-helper.c lib/spawn-helper.h

# What opens plugins, for the helpers: links jansson and dl.
lib_libdsplugins_a_SOURCES = \
	lib/chat.c lib/chat.h \
	lib/helper-main.c lib/helper-main.h \
	lib/plugin-check.c lib/plugin-check.h \
	lib/plugins.c lib/plugins.h \
	lib/render.c lib/render.h \
	lib/tokenize.c lib/tokenize.h \
	lib/vectors.c lib/vectors.h lib/vectors-kinds.h \
	lib/vectors-backend.c lib/vectors-dialect.c lib/vectors-format.c lib/vectors-sampler.c lib/vectors-tokenizer.c
lib_libdsplugins_a_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
