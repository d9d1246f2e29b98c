# One fragment a plugin.
include plugins/backend-cpu/local.mk
include plugins/dialect-deepseek/local.mk
include plugins/format-common/local.mk
include plugins/format-gguf/local.mk
include plugins/format-safetensors/local.mk
include plugins/sampler-core/local.mk
include plugins/tokenizer-bpe/local.mk
include plugins/tokenizer-common/local.mk
include plugins/tokenizer-spm/local.mk
