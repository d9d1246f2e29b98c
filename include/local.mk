# The plugin ABI: installed for authors of plugins, each header compiled alone by `make check`.
plugin_abi_headers = \
	include/deepseekd/backend.h \
	include/deepseekd/base.h \
	include/deepseekd/dialect.h \
	include/deepseekd/format.h \
	include/deepseekd/model.h \
	include/deepseekd/plugin.h \
	include/deepseekd/quants.h \
	include/deepseekd/sampler.h \
	include/deepseekd/tokenizer.h

deepseekdincludedir = $(includedir)/deepseekd
deepseekdinclude_HEADERS = $(plugin_abi_headers)
