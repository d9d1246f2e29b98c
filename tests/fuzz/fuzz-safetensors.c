/* fuzz-safetensors.c - the input is a .safetensors file of a small model with experts. */
#include "tests/checkpoint.h"

#include "plugins/format-safetensors/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char config[] =
	"{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"vocab_size\": 3, \"hidden_size\": 2, "
	"\"num_hidden_layers\": 2,"
	" \"num_attention_heads\": 1, \"intermediate_size\": 1, \"q_lora_rank\": 1, \"kv_lora_rank\": 2,"
	" \"qk_nope_head_dim\": 1, \"qk_rope_head_dim\": 2, \"v_head_dim\": 1, \"n_routed_experts\": 2,"
	" \"num_experts_per_tok\": 1, \"moe_intermediate_size\": 1, \"first_k_dense_replace\": 1, \"n_group\": 1,"
	" \"topk_group\": 1, \"num_nextn_predict_layers\": 1, \"quantization_config\": {\"quant_method\": \"fp8\","
	" \"weight_block_size\": [2, 128]}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct checkpoint *c;

	if (!c)
		c = calloc(1, sizeof(*c));
	checkpoint_text(c, "config.json", config);
	checkpoint_file(c, "model.safetensors", data, size);
	checkpoint_describe(c, &ds_safetensors_ops);
	return 0;
}
