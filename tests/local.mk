# One fragment a test.
include tests/bench/local.mk
include tests/forbidden/local.mk
include tests/fuzz/local.mk
include tests/neon/local.mk
include tests/null-engine/local.mk
include tests/oracle/local.mk
include tests/plugins/local.mk
include tests/unit/backend-cpu.mk
include tests/unit/client.mk
include tests/unit/daemon.mk
include tests/unit/dialect-deepseek.mk
include tests/unit/engine.mk
include tests/unit/format-gguf.mk
include tests/unit/format-safetensors.mk
include tests/unit/helpers.mk
include tests/unit/lib.mk
include tests/unit/sampler-core.mk
include tests/unit/tokenizer-bpe.mk
include tests/unit/tokenizer-spm.mk

# What the scripts among the tests need to know of the build.
AM_TESTS_ENVIRONMENT = CC='$(CC)'; export CC;
TESTS += tests/headers.sh tests/manual.sh

EXTRA_DIST += .ci/run tests/expected-skips tests/headers.sh tests/integration tests/kernel tests/manual.sh tests/npm tests/package tests/report.py \
	tests/system

# Whole folders are listed above: what python left in them stays behind.
dist-hook:
	find '$(distdir)' -name __pycache__ -prune -exec chmod -R u+w {} + -exec rm -r {} +
