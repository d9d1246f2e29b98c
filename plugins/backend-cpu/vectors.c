/* vectors.c - a known answer of every operation, small enough to be checked with a pocket calculator. */
#include "cpu.h"

const struct ds_vector ds_cpu_vectors[] = {
	{
		.name = "an embedding is the row of its token",
		.entry = "cpu",
		.input = "{\"op\": \"embed\", \"dtype\": \"bf16\", \"table\": [[1, 2], [3, -4], [5, 0.5]], "
			 "\"tokens\": [2, 0, 1, 2]}",
		.output = "{\"y\": [[5, 0.5], [1, 2], [3, -4], [5, 0.5]]}",
	},
	{
		.name = "a norm divides by the root of the mean square",
		.entry = "cpu",
		.input = "{\"op\": \"rms_norm\", \"x\": [[3, 4], [0, 0], [1, -1]], \"weight\": [1, 2], "
			 "\"eps\": 0.5}",
		.output = "{\"y\": [[0.83205029, 2.2188008], [0, 0], [0.81649658, -1.6329932]]}",
	},
	{
		.name = "a matrix of f32 times two rows",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"f32\", \"w\": [[1, 2, 3, 4, 5], [-1, 0.5, 0, 2, "
			 "-2], [0, 0, 0, 0, 1]], \"x\": [[1, 1, 1, 1, 1], [2, -1, 0.5, 0, 3]]}",
		.output = "{\"y\": [[15, -0.5, 1], [16.5, -8.5, 3]]}",
	},
	{
		.name = "a matrix of f16 times two rows",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"f16\", \"w\": [[1, 2, 3, 4, 5], [-1, 0.5, 0, 2, "
			 "-2], [0, 0, 0, 0, 1]], \"x\": [[1, 1, 1, 1, 1], [2, -1, 0.5, 0, 3]]}",
		.output = "{\"y\": [[15, -0.5, 1], [16.5, -8.5, 3]]}",
	},
	{
		.name = "a matrix of bf16 times two rows",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"bf16\", \"w\": [[1, 2, 3, 4, 5], [-1, 0.5, 0, 2, "
			 "-2], [0, 0, 0, 0, 1]], \"x\": [[1, 1, 1, 1, 1], [2, -1, 0.5, 0, 3]]}",
		.output = "{\"y\": [[15, -0.5, 1], [16.5, -8.5, 3]]}",
	},
	{
		.name = "a product is added to what is there",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"bf16\", \"w\": [[1, 2, 3, 4, 5], [-1, 0.5, 0, 2, "
			 "-2], [0, 0, 0, 0, 1]], \"x\": [[1, 1, 1, 1, 1], [2, -1, 0.5, 0, 3]], \"y\": [[100, "
			 "200, 300], [-1, -2, -3]]}",
		.output = "{\"y\": [[115, 199.5, 301], [15.5, -10.5, 0]]}",
	},
	{
		.name = "many rows at once",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"bf16\", \"w\": [[1, 1, 2], [0.25, -1, 0]], \"x\": "
			 "[[1, -4, 0.5], [2, -3, 0.5], [3, -2, 0.5], [4, -1, 0.5], [5, 0, 0.5], [6, 1, 0.5], "
			 "[7, 2, 0.5], [8, 3, 0.5], [9, 4, 0.5], [10, 5, 0.5], [11, 6, 0.5], [12, 7, 0.5], "
			 "[13, 8, 0.5], [14, 9, 0.5], [15, 10, 0.5], [16, 11, 0.5], [17, 12, 0.5], [18, 13, "
			 "0.5], [19, 14, 0.5], [20, 15, 0.5]]}",
		.output = "{\"y\": [[-2, 4.25], [0, 3.5], [2, 2.75], [4, 2], [6, 1.25], [8, 0.5], [10, -0.25], "
			 "[12, -1], [14, -1.75], [16, -2.5], [18, -3.25], [20, -4], [22, -4.75], [24, -5.5], "
			 "[26, -6.25], [28, -7], [30, -7.75], [32, -8.5], [34, -9.25], [36, -10]]}",
	},
	{
		.name = "each head meets its own matrix",
		.entry = "cpu",
		.input = "{\"op\": \"head_matmul\", \"dtype\": \"f16\", \"w\": [[[1, 2], [3, 4], [5, 6]], "
			 "[[-1, 0], [0, -1], [1, 1]]], \"x\": [[[1, 1], [2, 3]], [[0.5, -1], [4, 0]]]}",
		.output = "{\"y\": [[[3, 7, 11], [-2, -3, 5]], [[-1.5, -2.5, -3.5], [-4, 0, 4]]]}",
	},
	{
		.name = "each pair meets the expert it chose",
		.entry = "cpu",
		.input = "{\"op\": \"expert_matmul\", \"dtype\": \"bf16\", \"w\": [[[1, 2], [3, 4]], [[10, "
			 "20], [30, 40]], [[7, 7], [7, 7]]], \"x\": [[1, 1], [2, -1]], \"ids\": [[0, 2], [0, "
			 "1]], \"shared_input\": true}",
		.output = "{\"y\": [[3, 7], [14, 14], [0, 2], [0, 20]]}",
	},
	{
		.name = "experts may have inputs of their own",
		.entry = "cpu",
		.input = "{\"op\": \"expert_matmul\", \"dtype\": \"f32\", \"w\": [[[1, 2], [3, 4]], [[10, "
			 "20], [30, 40]], [[7, 7], [7, 7]]], \"x\": [[1, 0], [0, 1], [1, 1], [2, 2]], "
			 "\"ids\": [[0, 2], [0, 1]], \"shared_input\": false}",
		.output = "{\"y\": [[1, 3], [7, 7], [3, 7], [60, 140]]}",
	},
	{
		.name = "the experts' answers are weighed and added",
		.entry = "cpu",
		.input = "{\"op\": \"expert_sum\", \"x\": [[1, 2], [3, 4], [5, 6], [7, 8]], \"weights\": "
			 "[[0.5, 2], [1, -1]], \"y\": [[10, 20], [30, 40]]}",
		.output = "{\"y\": [[16.5, 29], [28, 38]]}",
	},
	{
		.name = "V2: the best of the best two groups, not normalised",
		.entry = "cpu",
		.input = "{\"op\": \"route\", \"logits\": [[1, 1, 3, -2, 2, 0]], \"k\": 3, \"n_groups\": 3, "
			 "\"n_groups_used\": 2, \"scoring\": \"softmax\", \"normalize\": false, \"scale\": 16}",
		.output = "{\"ids\": [[2, 4, 5]], \"weights\": [[9.4391102, 3.4724546, 0.46994563]]}",
	},
	{
		.name = "V3: the bias chooses and does not weigh",
		.entry = "cpu",
		.input = "{\"op\": \"route\", \"logits\": [[2, 0, 0, 1, 1, -3, 4, -3, -3]], \"bias\": [0, "
			 "0.05, 0, 0.07, 0, 0, 0.05, 0, 0], \"k\": 3, \"n_groups\": 3, \"n_groups_used\": 2, "
			 "\"scoring\": \"sigmoid\", \"normalize\": true, \"scale\": 2.5}",
		.output = "{\"ids\": [[0, 3, 4]], \"weights\": [[0.93985203, 0.78007399, 0.78007399]]}",
	},
	{
		.name = "a tie goes to the lowest expert",
		.entry = "cpu",
		.input = "{\"op\": \"route\", \"logits\": [[0, 0, 0, 0]], \"k\": 2, \"scoring\": \"sigmoid\", "
			 "\"normalize\": true, \"scale\": 1}",
		.output = "{\"ids\": [[0, 1]], \"weights\": [[0.5, 0.5]]}",
	},
	{
		.name = "pairs are turned by position times frequency",
		.entry = "cpu",
		.input = "{\"op\": \"rope\", \"x\": [[[1, 2, 3, 4], [1, 0, 0, 1]], [[1, 2, 3, 4], [1, 0, 0, "
			 "1]]], \"frequencies\": [1, 0.25], \"positions\": [0, 3]}",
		.output = "{\"y\": [[[1, 2, 3, 4], [1, 0, 0, 1]], [[-1.2722325, -1.838865, -0.53148843, "
			 "4.9716718], [-0.9899925, 0.14112001, -0.68163876, 0.73168887]]]}",
	},
	{
		.name = "pairs may be a half apart",
		.entry = "cpu",
		.input = "{\"op\": \"rope\", \"x\": [[[1, 2, 3, 4], [1, 0, 0, 1]], [[1, 2, 3, 4], [1, 0, 0, "
			 "1]]], \"frequencies\": [1, 0.25], \"positions\": [0, 3], \"halves\": true}",
		.output = "{\"y\": [[[1, 2, 3, 4], [1, 0, 0, 1]], [[-1.4133525, -1.2631773, -2.8288575, "
			  "4.290033], [-0.9899925, -0.68163876, 0.14112001, 0.73168887]]]}",
	},
	{
		.name = "rows are stored in the page of their position",
		.entry = "cpu",
		.input = "{\"op\": \"kv_store\", \"dtype\": \"bf16\", \"x\": [[1, 2, 3], [4, 5, 6], [7, 8, "
			 "0.5]], \"positions\": [0, 3, 1], \"pages\": [[2, 0], [2, 0], [1, 1]], "
			 "\"page_tokens\": 2, \"n_pages\": 3}",
		.output = "{\"y\": [[0, 0, 0], [4, 5, 6], [0, 0, 0], [7, 8, 0.5], [1, 2, 3], [0, 0, 0]]}",
	},
	{
		.name = "attention over a cache of f32 sees no later position",
		.entry = "cpu",
		.input = "{\"op\": \"latent_attention\", \"dtype\": \"f32\", \"q\": [[[1, 2], [0, 1]], [[-1, "
			 "1], [1, 0]]], \"q_rope\": [[[1], [0]], [[2], [-1]]], \"cache\": [[1, 0, 2], [0, 1, "
			 "1], [9, 9, 9], [8, 8, 8], [0.5, -1, 0], [2, 1, -1]], \"positions\": [2, 1], "
			 "\"pages\": [[2, 0], [2, 0]], \"page_tokens\": 2, \"scale\": 0.5}",
		.output = "{\"y\": [[[1.4499386, 0.42490791], [1.4133185, 0.32015667]], [[0.98123195, "
			 "-0.3583574], [1.6659498, 0.55459972]]]}",
	},
	{
		.name = "attention over a cache of bf16 sees no later position",
		.entry = "cpu",
		.input = "{\"op\": \"latent_attention\", \"dtype\": \"bf16\", \"q\": [[[1, 2], [0, 1]], [[-1, "
			 "1], [1, 0]]], \"q_rope\": [[[1], [0]], [[2], [-1]]], \"cache\": [[1, 0, 2], [0, 1, "
			 "1], [9, 9, 9], [8, 8, 8], [0.5, -1, 0], [2, 1, -1]], \"positions\": [2, 1], "
			 "\"pages\": [[2, 0], [2, 0]], \"page_tokens\": 2, \"scale\": 0.5}",
		.output = "{\"y\": [[[1.4499386, 0.42490791], [1.4133185, 0.32015667]], [[0.98123195, "
			 "-0.3583574], [1.6659498, 0.55459972]]]}",
	},
	{
		.name = "two heads share their keys and values",
		.entry = "cpu",
		.input = "{\"op\": \"attention\", \"dtype\": \"f16\", \"q\": [[[1, 2], [0, 1], [-1, 1], [2, "
			 "-1]], [[-1, 1], [1, 0], [0.5, 0.5], [0, -2]]], \"k\": [[1, 0, 2, 1], [0, 1, 1, "
			 "-1], [9, 9, 9, 9], [8, 8, 8, 8], [0.5, -1, 0, 1], [2, 1, -1, 0.5]], \"v\": [[1, "
			 "2, 3, 4], [-1, 0.5, 2, 0], [7, 7, 7, 7], [6, 6, 6, 6], [0, 4, -2, 1], [3, -3, 1, "
			 "0.25]], \"n_kv_heads\": 2, \"positions\": [2, 1], \"pages\": [[2, 0], [2, 0]], "
			 "\"page_tokens\": 2, \"scale\": 0.5}",
		.output = "{\"y\": [[[2.5042617, -1.7854892], [1.8266371, -0.15975451], [0.14618313, "
			  "1.0530258], [2.3291446, 3.4615566]], [[1.6865295, 0.064764494], [2.0375361, "
			  "-0.75425089], [-0.7779998, 0.69449995], [-0.13262201, 0.5331555]]]}",
	},
	{
		.name = "a bias is added to every row",
		.entry = "cpu",
		.input = "{\"op\": \"add_bias\", \"y\": [[1, 2, 3], [-4, 0, 0.5]], \"bias\": [10, 0.25, -1]}",
		.output = "{\"y\": [[11, 2.25, 2], [6, 0.25, -0.5]]}",
	},
	{
		.name = "a gate is a sigmoid-weighted unit",
		.entry = "cpu",
		.input = "{\"op\": \"swiglu\", \"gate\": [0, 1, -1, 20, -20], \"up\": [3, 2, 2, 0.5, 1]}",
		.output = "{\"y\": [0, 1.4621172, -0.53788284, 10, -4.1223072e-08]}",
	},
	{
		.name = "rows are gathered in the order asked",
		.entry = "cpu",
		.input = "{\"op\": \"gather\", \"x\": [[1, 2], [3, 4], [5, 6]], \"indices\": [2, 2, 0]}",
		.output = "{\"y\": [[5, 6], [5, 6], [1, 2]]}",
	},
	{0},
};
