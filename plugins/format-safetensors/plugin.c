/* plugin.c - the format plugin for Hugging Face directories: config.json, *.safetensors, tokenizer.json. */
#include "checkpoint.h"

/* A whole model of one dense layer: hidden 2, one head of 1 + 2, kv_lora 2, all BF16. */
#define ONE_LAYER                                                                                                      \
	"a4040000000000007b226d6f64656c2e656d6265645f746f6b656e732e776569676874223a7b226474797065223a224246313622"     \
	"2c227368617065223a5b332c325d2c22646174615f6f666673657473223a5b302c31325d7d2c226d6f64656c2e6e6f726d2e7765"     \
	"69676874223a7b226474797065223a2242463136222c227368617065223a5b325d2c22646174615f6f666673657473223a5b3132"     \
	"2c31365d7d2c226c6d5f686561642e776569676874223a7b226474797065223a2242463136222c227368617065223a5b332c325d"     \
	"2c22646174615f6f666673657473223a5b31362c32385d7d2c226d6f64656c2e6c61796572732e302e696e7075745f6c61796572"     \
	"6e6f726d2e776569676874223a7b226474797065223a2242463136222c227368617065223a5b325d2c22646174615f6f66667365"     \
	"7473223a5b32382c33325d7d2c226d6f64656c2e6c61796572732e302e73656c665f6174746e2e715f70726f6a2e776569676874"     \
	"223a7b226474797065223a2242463136222c227368617065223a5b332c325d2c22646174615f6f666673657473223a5b33322c34"     \
	"345d7d2c226d6f64656c2e6c61796572732e302e73656c665f6174746e2e6b765f615f70726f6a5f776974685f6d71612e776569"     \
	"676874223a7b226474797065223a2242463136222c227368617065223a5b342c325d2c22646174615f6f666673657473223a5b34"     \
	"342c36305d7d2c226d6f64656c2e6c61796572732e302e73656c665f6174746e2e6b765f615f6c617965726e6f726d2e77656967"     \
	"6874223a7b226474797065223a2242463136222c227368617065223a5b325d2c22646174615f6f666673657473223a5b36302c36"     \
	"345d7d2c226d6f64656c2e6c61796572732e302e73656c665f6174746e2e6b765f625f70726f6a2e776569676874223a7b226474"     \
	"797065223a2242463136222c227368617065223a5b322c325d2c22646174615f6f666673657473223a5b36342c37325d7d2c226d"     \
	"6f64656c2e6c61796572732e302e73656c665f6174746e2e6f5f70726f6a2e776569676874223a7b226474797065223a22424631"     \
	"36222c227368617065223a5b322c315d2c22646174615f6f666673657473223a5b37322c37365d7d2c226d6f64656c2e6c617965"     \
	"72732e302e706f73745f617474656e74696f6e5f6c617965726e6f726d2e776569676874223a7b226474797065223a2242463136"     \
	"222c227368617065223a5b325d2c22646174615f6f666673657473223a5b37362c38305d7d2c226d6f64656c2e6c61796572732e"     \
	"302e6d6c702e676174655f70726f6a2e776569676874223a7b226474797065223a2242463136222c227368617065223a5b312c32"     \
	"5d2c22646174615f6f666673657473223a5b38302c38345d7d2c226d6f64656c2e6c61796572732e302e6d6c702e75705f70726f"     \
	"6a2e776569676874223a7b226474797065223a2242463136222c227368617065223a5b312c325d2c22646174615f6f6666736574"     \
	"73223a5b38342c38385d7d2c226d6f64656c2e6c61796572732e302e6d6c702e646f776e5f70726f6a2e776569676874223a7b22"     \
	"6474797065223a2242463136222c227368617065223a5b322c315d2c22646174615f6f666673657473223a5b38382c39325d7d7d"     \
	"003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f"     \
	"003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f"

#define CONFIG(architecture)                                                                                           \
	"\"config.json\": {\"text\": \"{\\\"architectures\\\": [\\\"" architecture "\\\"], \\\"vocab_size\\\": 3, "    \
	"\\\"hidden_size\\\": 2, \\\"num_hidden_layers\\\": 1, \\\"num_attention_heads\\\": 1, "                       \
	"\\\"intermediate_size\\\": 1, \\\"q_lora_rank\\\": null, \\\"kv_lora_rank\\\": 2, "                           \
	"\\\"qk_nope_head_dim\\\": 1, \\\"qk_rope_head_dim\\\": 2, \\\"v_head_dim\\\": 1}\"}"

/* The same of grouped-query attention: hidden 2, two heads of 2 that share one key head. It holds what Qwen2 (biases)
 * and Qwen3 (norms) have beside Llama; embeddings are tied. */
#define GROUPED_LAYER                                                                                                  \
	"b9050000000000007b226d6f64656c2e656d6265645f746f6b656e732e776569676874223a7b226474797065223a22424631"         \
	"36222c227368617065223a5b332c325d2c22646174615f6f666673657473223a5b302c31325d7d2c226d6f64656c2e6e6f72"         \
	"6d2e776569676874223a7b226474797065223a2242463136222c227368617065223a5b325d2c22646174615f6f6666736574"         \
	"73223a5b31322c31365d7d2c226d6f64656c2e6c61796572732e302e696e7075745f6c617965726e6f726d2e776569676874"         \
	"223a7b226474797065223a2242463136222c227368617065223a5b325d2c22646174615f6f666673657473223a5b31362c32"         \
	"305d7d2c226d6f64656c2e6c61796572732e302e73656c665f6174746e2e715f70726f6a2e776569676874223a7b22647479"         \
	"7065223a2242463136222c227368617065223a5b342c325d2c22646174615f6f666673657473223a5b32302c33365d7d2c22"         \
	"6d6f64656c2e6c61796572732e302e73656c665f6174746e2e6b5f70726f6a2e776569676874223a7b226474797065223a22"         \
	"42463136222c227368617065223a5b322c325d2c22646174615f6f666673657473223a5b33362c34345d7d2c226d6f64656c"         \
	"2e6c61796572732e302e73656c665f6174746e2e765f70726f6a2e776569676874223a7b226474797065223a224246313622"         \
	"2c227368617065223a5b322c325d2c22646174615f6f666673657473223a5b34342c35325d7d2c226d6f64656c2e6c617965"         \
	"72732e302e73656c665f6174746e2e715f70726f6a2e62696173223a7b226474797065223a2242463136222c227368617065"         \
	"223a5b345d2c22646174615f6f666673657473223a5b35322c36305d7d2c226d6f64656c2e6c61796572732e302e73656c66"         \
	"5f6174746e2e6b5f70726f6a2e62696173223a7b226474797065223a2242463136222c227368617065223a5b325d2c226461"         \
	"74615f6f666673657473223a5b36302c36345d7d2c226d6f64656c2e6c61796572732e302e73656c665f6174746e2e765f70"         \
	"726f6a2e62696173223a7b226474797065223a2242463136222c227368617065223a5b325d2c22646174615f6f6666736574"         \
	"73223a5b36342c36385d7d2c226d6f64656c2e6c61796572732e302e73656c665f6174746e2e715f6e6f726d2e7765696768"         \
	"74223a7b226474797065223a2242463136222c227368617065223a5b325d2c22646174615f6f666673657473223a5b36382c"         \
	"37325d7d2c226d6f64656c2e6c61796572732e302e73656c665f6174746e2e6b5f6e6f726d2e776569676874223a7b226474"         \
	"797065223a2242463136222c227368617065223a5b325d2c22646174615f6f666673657473223a5b37322c37365d7d2c226d"         \
	"6f64656c2e6c61796572732e302e73656c665f6174746e2e6f5f70726f6a2e776569676874223a7b226474797065223a2242"         \
	"463136222c227368617065223a5b322c345d2c22646174615f6f666673657473223a5b37362c39325d7d2c226d6f64656c2e"         \
	"6c61796572732e302e706f73745f617474656e74696f6e5f6c617965726e6f726d2e776569676874223a7b22647479706522"         \
	"3a2242463136222c227368617065223a5b325d2c22646174615f6f666673657473223a5b39322c39365d7d2c226d6f64656c"         \
	"2e6c61796572732e302e6d6c702e676174655f70726f6a2e776569676874223a7b226474797065223a2242463136222c2273"         \
	"68617065223a5b312c325d2c22646174615f6f666673657473223a5b39362c3130305d7d2c226d6f64656c2e6c6179657273"         \
	"2e302e6d6c702e75705f70726f6a2e776569676874223a7b226474797065223a2242463136222c227368617065223a5b312c"         \
	"325d2c22646174615f6f666673657473223a5b3130302c3130345d7d2c226d6f64656c2e6c61796572732e302e6d6c702e64"         \
	"6f776e5f70726f6a2e776569676874223a7b226474797065223a2242463136222c227368617065223a5b322c315d2c226461"         \
	"74615f6f666673657473223a5b3130342c3130385d7d7d003f003f003f003f003f003f003f003f003f003f003f003f003f00"         \
	"3f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f00"         \
	"3f003f003f003f003f003f003f003f003f003f003f003f003f003f003f003f"

#define GROUPED_CONFIG(architecture, more)                                                                             \
	"\"config.json\": {\"text\": \"{\\\"architectures\\\": [\\\"" architecture "\\\"], \\\"vocab_size\\\": 3, "    \
	"\\\"hidden_size\\\": 2, \\\"num_hidden_layers\\\": 1, \\\"num_attention_heads\\\": 2, \\\"head_dim\\\": 2, "  \
	"\\\"num_key_value_heads\\\": 1, \\\"intermediate_size\\\": 1, \\\"tie_word_embeddings\\\": true" more "}\"}"

#define GROUPED_TENSORS                                                                                                \
	"\"token_embedding\": [3, 2], \"output_norm\": [2], \"layers.0.attention_norm\": [2], \"layers.0.q\": [4, "    \
	"2], "                                                                                                         \
	"\"layers.0.k\": [2, 2], \"layers.0.v\": [2, 2], \"layers.0.attention_output\": [2, 4], "                      \
	"\"layers.0.ffn_norm\": [2], \"layers.0.ffn_gate\": [1, 2], \"layers.0.ffn_up\": [1, 2], "                     \
	"\"layers.0.ffn_down\": [2, 1]"

#define TOKENIZER                                                                                                      \
	"\"tokenizer.json\": {\"text\": \"{\\\"model\\\": {\\\"type\\\": \\\"BPE\\\", "                                \
	"\\\"vocab\\\": {\\\"a\\\": 0, \\\"b\\\": 1, \\\"ab\\\": 2}, \\\"merges\\\": [\\\"a b\\\"]}, "                 \
	"\\\"pre_tokenizer\\\": {\\\"type\\\": \\\"ByteLevel\\\", \\\"add_prefix_space\\\": false}}\"}"

#define SHARD(hex) "\"model.safetensors\": {\"hex\": \"" hex "\"}"
#define FILES(files) "{\"files\": {" files "}}"

static const struct ds_vector vectors[] = {
	{
		.name = "a checkpoint of one dense layer is described",
		.entry = "safetensors",
		.input = FILES(CONFIG("DeepseekV2ForCausalLM") ", " TOKENIZER ", " SHARD(ONE_LAYER)),
		.output = "{\"architecture\": \"deepseek\", \"n_tokens\": 3, \"tensors\": {"
			  "\"token_embedding\": [3, 2], \"output_norm\": [2], \"output\": [3, 2], "
			  "\"layers.0.attention_norm\": [2], \"layers.0.q\": [3, 2], \"layers.0.kv_a\": [4, 2], "
			  "\"layers.0.kv_a_norm\": [2], \"layers.0.k_b\": [1, 2, 1], \"layers.0.v_b\": [1, 1, 2], "
			  "\"layers.0.attention_output\": [2, 1], \"layers.0.ffn_norm\": [2], "
			  "\"layers.0.ffn_gate\": [1, 2], \"layers.0.ffn_up\": [1, 2], \"layers.0.ffn_down\": [2, 1]}}",
	},
	{
		.name = "a Llama with tied embeddings is described",
		.entry = "safetensors",
		.input = FILES(GROUPED_CONFIG("LlamaForCausalLM", "") ", " SHARD(GROUPED_LAYER)),
		.output = "{\"architecture\": \"llama\", \"tensors\": {" GROUPED_TENSORS "}}",
	},
	{
		.name = "a Qwen2 has biases",
		.entry = "safetensors",
		.input = FILES(GROUPED_CONFIG("Qwen2ForCausalLM", "") ", " SHARD(GROUPED_LAYER)),
		.output = "{\"architecture\": \"llama\", \"tensors\": {" GROUPED_TENSORS
			  ", \"layers.0.q_bias\": [4], \"layers.0.k_bias\": [2], "
			  "\"layers.0.v_bias\": [2]"
			  "}}",
	},
	{
		.name = "a Qwen3 has norms of queries and keys",
		.entry = "safetensors",
		.input = FILES(GROUPED_CONFIG("Qwen3ForCausalLM", "") ", " SHARD(GROUPED_LAYER)),
		.output = "{\"architecture\": \"llama\", \"tensors\": {" GROUPED_TENSORS
			  ", \"layers.0.q_norm\": [2], \"layers.0.k_norm\": [2]"
			  "}}",
	},
	{
		.name = "a sliding window is refused",
		.entry = "safetensors",
		.input = FILES(GROUPED_CONFIG("Qwen2ForCausalLM",
					      ", \\\"use_sliding_window\\\": true") ", " SHARD(GROUPED_LAYER)),
		.output = "{\"error\": \"use_sliding_window true is not supported\"}",
	},
	{
		.name = "a header longer than the file is refused",
		.entry = "safetensors",
		.input = FILES(CONFIG("DeepseekV2ForCausalLM") ", " SHARD("ff000000000000007b7d")),
		.output = "{\"error\": \"longer than the file\"}",
	},
	{
		.name = "an architecture that is not supported is refused by name",
		.entry = "safetensors",
		.input = FILES(CONFIG("GPT2LMHeadModel") ", " SHARD("02000000000000007b7d")),
		.output = "{\"error\": \"architecture GPT2LMHeadModel is not supported\"}",
	},
	{},
};

static const struct ds_entry entries[] = {
	{"safetensors", "Hugging Face directories: config.json, *.safetensors, tokenizer.json", &ds_safetensors_ops},
	{},
};

DS_PLUGIN(.kind = DS_PLUGIN_FORMAT, .name = "format-safetensors", .version = PACKAGE_VERSION,
	  .summary = "reads Hugging Face checkpoints of DeepSeek V2, V3 and R1, and of its distills on Llama and Qwen",
	  .vectors = vectors, .entries = entries);
