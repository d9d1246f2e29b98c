/* vectors.c - a known answer of every operation, small enough to be checked with a pocket calculator, and a block or two
 * of every quantised type. */
#include "cpu.h"

/* Activations for blocks of 32, 128 and 256 elements, each the continuation of the last. */
#define X_32 \
	"-1, 0, -2, 0, 2, -1, -2, 1, 1, -2, -2, -1, 0, 1, 2, 1, 1, -1, -1, 0, 0, 0, 1, -2, 2, 1, 1, -2, " \
	"-1, 2, -1, -2"
#define X_128 \
	X_32 ", -1, -2, -2, -1, 0, 0, 0, 0, -1, 2, -2, -2, 0, -1, -1, 2, -1, -2, -2, 2, 0, 0, -1, 0, 2, 1, -1, " \
	"0, 2, 1, -1, -1, 1, -2, -1, 2, 1, 0, -1, -2, 2, -2, 2, -1, 1, -1, -1, -2, -2, 0, -2, 0, 1, 1, 2, " \
	"-2, -1, -2, 1, 2, 0, -2, -2, 2, -2, -2, 0, 0, -2, 0, -2, -2, -1, -1, 2, 2, -2, -1, -2, 2, -1, 0, " \
	"-1, 1, 0, -2, 1, -2, -1, -1, -1, -1, -2, 0, -1, 2"
#define X_256 \
	X_128 ", 1, -1, -2, 1, 1, -2, -1, -1, 0, 1, -2, 0, -1, 0, 2, 0, -1, -2, -2, 0, -2, 1, 0, 0, 1, 1, -2, " \
	"-2, 2, 1, -1, -2, 2, -2, 2, 2, 0, -2, -1, 0, 0, 2, -2, -2, -2, -1, -1, 2, 1, 2, -2, 2, 0, 0, 1, " \
	"-2, -1, 2, 1, 2, 1, 1, 0, -2, 1, -2, 2, 1, 0, -1, -1, 0, 1, 0, 1, -1, 2, -2, 0, -1, -2, 0, -2, " \
	"-2, 1, -1, 2, -1, 0, -2, -1, 0, 0, 2, -1, -2, -1, 1, 2, 1, -1, 1, 1, 2, 0, 2, 2, 0, 2, -2, 1, 0, " \
	"0, -1, 1, -1, 1, -1, 0, 0, 2, -1, 2, -2, 0, -2, 2, -1"

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
		.name = "a matrix of q4_0",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"q4_0\", \"w\": ["
			 "\"43256d9df15b45418c0c2757ad8c7da22b4a\", "
			 "\"632426fd1416f3f1c830449fd657e9e2f74e\"], \"x\": [[" X_32 "]]}",
		.output = "{\"y\": [[0.14387512, 0.05140686]]}",
	},
	{
		.name = "a matrix of q4_1",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"q4_1\", \"w\": ["
			 "\"26a87329cdef229c3a6f699c6a93dff230ba7d5e\", "
			 "\"8229a5a79141215b123b8fd52d62e2e3d0165958\"], \"x\": [[" X_32 "]]}",
		.output = "{\"y\": [[-0.0184021, -1.8300629]]}",
	},
	{
		.name = "a matrix of q5_0",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"q5_0\", \"w\": ["
			 "\"86288c773c30e4ddab79551ce72d0c920f82b7869dcd\", "
			 "\"16241f5b507524e1d715006fc7ec2f92ed97a835e460\"], \"x\": [[" X_32 "]]}",
		.output = "{\"y\": [[0.77746582, 0.35113525]]}",
	},
	{
		.name = "a matrix of q5_1",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"q5_1\", \"w\": ["
			 "\"16a8b6a35c7395003f1a72dac18dae43a31b052ff35a4b6b\", "
			 "\"a321daa2682b3c4f0d4fb49dba0b850de400a392f0e89f1a\"], \"x\": [[" X_32 "]]}",
		.output = "{\"y\": [[3.1078339, -0.087219238]]}",
	},
	{
		.name = "a matrix of q8_0",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"q8_0\", \"w\": ["
			 "\"3ea8eb8f2bdb240cc90884072202a134fddc35aa0d063c1175e77fb2be233c217d80\", "
			 "\"7ca414ec2a5d506e7d667a921443b1e9a0e0fc00993cb865914b5b1e77825b110536\"], \"x\": [[" X_32 "]]}",
		.output = "{\"y\": [[-12.759705, -0.64813232]]}",
	},
	{
		.name = "a matrix of q2_k",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"q2_k\", \"w\": ["
			 "\"ea8b741ede7f91a99e7db2fbda2168686ffeefa64ce9cc210c49f26f18f7830137ec14733c08442572c60eaf"
			 "68838ea06f74d518810579e1add7a7bd292dcaf25b8940264d1645743c0c6c2ea97a16f9442792a9\"], \"x\": [[" X_256 "]]}",
		.output = "{\"y\": [[-24.430664]]}",
	},
	{
		.name = "a matrix of q3_k",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"q3_k\", \"w\": ["
			 "\"c924dbe2d9d53f717da0300b600215ac56d6af19764d859af29134a72575e87192076ec33c6a2ee0cef6d56b"
			 "452c45c9f71de97f2fc4a4232abe426f14147e420f374184f3dc8256ee5f46166239b5eff0a719a3a8c43509"
			 "e15c23e24064a2dc6053b3164b9ab286227bc7ff96a1\"], \"x\": [[" X_256 "]]}",
		.output = "{\"y\": [[24.416656]]}",
	},
	{
		.name = "a matrix of q4_k",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"q4_k\", \"w\": ["
			 "\"22aabaa8f0a169e032cd2d365edaca4a99479294bb5addbdae8c6d7baa3b0290f944adf16fbc9870ab97e328"
			 "4f8533936bfa298cf646c22b1611998c4f1055aa11800c81dbfc161f4413475409c58d38771d561d338e914b"
			 "3c9ed13c7234215011d1c70e1acab4cc59420f81a6039cf8e5809f7e3c3b528b2f778dea989e7c288b13932a"
			 "9b50ef8ed92029bff1762643\"], \"x\": [[" X_256 "]]}",
		.output = "{\"y\": [[481.02875]]}",
	},
	{
		.name = "a matrix of q5_k",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"q5_k\", \"w\": ["
			 "\"e2263425e6d8a298c004b7f251b90ce8e3f7e2e3ffa2b49c1e34a9062ef4b343e25b48423b0bfa809781974e"
			 "446efea3512afcd8d07bdb06168bc0b71b28e55b32e3819ca66715036fad2f14faa84c0d7ceaf0d50f2a99eb"
			 "c9289d6fac77e9339cb090c787d5e9ba1eaa222cffc9a25bbdd9988bdfedc8641c10d01c8f1f5738764a08e0"
			 "3b0f41b1506b1985e08606cf37ee43ddbf5e37b8be9abbee94f974d8ffd6932f280c562bb7dabc1b3d6bce54\"], \"x\": [[" X_256 "]]}",
		.output = "{\"y\": [[-685.33228]]}",
	},
	{
		.name = "a matrix of q6_k",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"q6_k\", \"w\": ["
			 "\"87b03b7b9b6c6bcbfff7d6d91a5aed3d1a637868c87b55507dcc296e900173399cff4cad5ede47150faefab9"
			 "5bf827d9bc003b22843793606c941a0e72507092d17fdaa8d0475c9e382bb6122f3ac1c09f260df281c04f50"
			 "564b71eeee92c4c211f032c92b3e17757b76c7a618cb0377f3aa6b9b04b17e59927517e1b0f9dfb662c88bc5"
			 "bd309056895ed94a237e438ab1b8b90f56c9e545284a94dccaa7a4351850b5baa2746ed761609a0d7cc7322d"
			 "16cbc284419cdb3ae553c5faea75853d855b8ceb0067904b36134607bb960ef1b4a8\"], \"x\": [[" X_256 "]]}",
		.output = "{\"y\": [[2054.0164]]}",
	},
	{
		.name = "a matrix of iq4_nl",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"iq4_nl\", \"w\": ["
			 "\"7127b80e730d0e871d780d8f119c38402a4e\", "
			 "\"00a73af1241f706c6f6b12c135f88561c2f5\"], \"x\": [[" X_32 "]]}",
		.output = "{\"y\": [[1.3371277, 37.625]]}",
	},
	{
		.name = "a matrix of iq4_xs",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"iq4_xs\", \"w\": ["
			 "\"41a402d6a3b28f7fc0a7d67419b3571da3310ba93fe90aa1fe88eab9a2dd9289eb6f913d3b5cf6e0ef81460b"
			 "a3013b2298bfd7ae9d6638f84e795cd4ead3972798600a775357fc2998fe2a2aa1002e4c486de3c5f47bfffa"
			 "e55f3c02ebd67eeff8f93b5c4e49fb6be11889fc747437b53afba5320d524005df494c9f0d085f209a4d8e08"
			 "37268d7a\"], \"x\": [[" X_256 "]]}",
		.output = "{\"y\": [[-325.00841]]}",
	},
	{
		.name = "a matrix of mxfp4",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"mxfp4\", \"w\": ["
			 "\"7ec6e2754b27035cdf476c8eb23a1a29b8\", "
			 "\"7eb799925486746b4cf84dd9a51425cab5\"], \"x\": [[" X_32 "]]}",
		.output = "{\"y\": [[15.5, 1]]}",
	},
	{
		.name = "a matrix of fp8",
		.entry = "cpu",
		.input = "{\"op\": \"matmul\", \"dtype\": \"fp8\", \"w\": ["
			 "\"47d0233c471c478a937d5cf09297d16228b5ca001a43499059ee67a73535d639c0e2eb24d967eda73fd61c65"
			 "df40cb8ccb17958725b6fc833dd09254d6f11558c5f806250808d72fa04871c605bd37efe6dbfb897492db7e"
			 "8b04bfa7da59ed21f9077a3ba9019c022951a156c30f635e305e5c01e049df4ba511cc04d17ab0834659afef\"], \"x\": [[" X_128 "]]}",
		.output = "{\"y\": [[-13.326152]]}",
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
