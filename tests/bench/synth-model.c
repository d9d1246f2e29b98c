/* synth-model.c - writes a GGUF file of the shape of a published model, with random weights: for benchmarks against
 * models that cannot be had here, and for tests of sizes.
 *
 *     synth-model PRESET FILE [TYPE] [joint] */
#include "gguf-mix.h"
#include "gguf-model.h"
#include "synth-presets.h"
#include "synth-safetensors.h"
#include "synth-weights.h"
#include "synth-words.h"

#include <fcntl.h>
#include <string.h>

#define TEMPLATE                                                                                                       \
	"{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<\xef\xbd\x9cUser\xef\xbd\x9c>{{ "          \
	"m['content'] }}{% else %}<\xef\xbd\x9c"                                                                       \
	"Assistant\xef\xbd\x9c>{{ m['content'] }}{% endif %}{% endfor %}{% if "                                        \
	"add_generation_prompt %}<\xef\xbd\x9c"                                                                        \
	"Assistant\xef\xbd\x9c><think>\n{% endif %}"

struct synth {
	const struct synth_preset *preset;
	const struct ds_mix *mix;
	struct ds_gguf_writer *writer;
	int fd;
	uint32_t n; /* tensors so far, in either pass */
	struct synth_weights *weights;
};

static enum ds_dtype dtype_of(const struct synth *s, const struct ds_tensor_desc *desc)
{
	return ds_mix_type(s->mix, &s->preset->hparams, desc->name, desc->n_dims, desc->shape[desc->n_dims - 1], false);
}

/* First pass: tell the writer. */
static int announce(void *self, const struct ds_tensor_desc *desc, struct ds_error *err)
{
	struct synth *s = self;
	uint64_t ne[DS_MAX_DIMS];
	char name[128];

	if (!ds_gguf_tensor_name(name, sizeof(name), desc->name))
		return ds_fail(err, -EINVAL, "%s has no name in GGUF", desc->name);
	for (uint32_t d = 0; d < desc->n_dims; d++)
		ne[d] = desc->shape[desc->n_dims - 1 - d];
	ds_gguf_writer_tensor(s->writer, name, dtype_of(s, desc), desc->n_dims, ne);
	s->n++;
	return 0;
}

/* Second pass. */
static int fill(void *self, const struct ds_tensor_desc *desc, struct ds_error *err)
{
	struct synth *s = self;

	return synth_weights_write(s->weights, desc, dtype_of(s, desc), ds_gguf_writer_offset(s->writer, s->n++), err);
}

static int put_keys(struct synth *s, bool joint, struct ds_error *err)
{
	ds_cleanup(synth_words_freep) struct synth_words *words = NULL;
	const struct ds_hparams *h = &s->preset->hparams;
	struct ds_vocabulary vocabulary;
	int r = synth_words_new(&words, &vocabulary, h->vocab, err);

	if (r < 0)
		return r;
	ds_gguf_writer_text(s->writer, NULL, "general.architecture", ds_gguf_architecture(h));
	ds_gguf_writer_text(s->writer, NULL, "general.type", "model");
	ds_gguf_writer_text(s->writer, NULL, "general.name", s->preset->name);
	ds_gguf_writer_u32(s->writer, NULL, "general.file_type", s->mix->file_type);
	ds_gguf_writer_u32(s->writer, NULL, "general.quantization_version", 2);
	ds_gguf_put_hparams(s->writer, h, joint);
	ds_gguf_writer_text(s->writer, NULL, "tokenizer.chat_template", TEMPLATE);
	return ds_gguf_put_vocabulary(s->writer, &vocabulary, s->preset->pre, h->vocab, err);
}

static int run(struct synth *s, bool joint, struct ds_error *err)
{
	const struct ds_hparams *h = &s->preset->hparams;
	float divisors[DS_MAX_ROPE_PAIRS];
	bool has_divisors = ds_gguf_rope_divisors(h, divisors);
	int r = put_keys(s, joint, err);

	if (r == 0)
		r = synth_each_tensor(h, joint, announce, s, err);
	if (r == 0 && has_divisors)
		ds_gguf_writer_tensor(s->writer, "rope_freqs.weight", DS_DTYPE_F32, 1, &(uint64_t){h->head_dim / 2});
	if (r == 0)
		r = ds_gguf_writer_layout(s->writer, err);
	if (r == 0 && ftruncate(s->fd, (off_t)ds_gguf_writer_size(s->writer)) < 0)
		r = ds_fail(err, -errno, "the file cannot be written: %s", strerror(errno));
	if (r == 0)
		r = ds_gguf_writer_write(s->writer, s->fd, err);
	s->n = 0;
	if (r == 0)
		r = synth_each_tensor(h, joint, fill, s, err);
	if (r == 0 && has_divisors)
		r = synth_write_at(s->fd, divisors, h->head_dim / 2 * sizeof(*divisors),
				   ds_gguf_writer_offset(s->writer, s->n), err);
	return r;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: synth-model PRESET FILE [TYPE] [joint]\n"
		"       synth-model PRESET DIRECTORY safetensors\n"
		"TYPE is a mix of dsctl quantize (q4_k_m); joint: attn_kv_b in one, for programs from before its "
		"division.\nThe directory gets BF16 and no tokenizer.\nPresets:\n");
	synth_preset_list(stderr);
	return 2;
}

static int write_gguf(struct synth *s, const char *path, bool joint, struct ds_error *err)
{
	int r;

	s->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (s->fd < 0)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	r = synth_weights_new(&s->weights, s->fd, err);
	if (r == 0)
		r = ds_gguf_writer_new(&s->writer, err);
	if (r == 0)
		r = run(s, joint, err);
	ds_gguf_writer_free(s->writer);
	synth_weights_free(s->weights);
	close(s->fd);
	return r;
}

int main(int argc, char **argv)
{
	const char *type = argc > 3 ? argv[3] : "q4_k_m";
	struct synth s = {.preset = argc > 1 ? synth_preset_find(argv[1]) : NULL, .mix = ds_mix_find(type)};
	bool directory = strcmp(type, "safetensors") == 0;
	struct ds_error err = {""};
	int r;

	if (argc < 3 || argc > 5 || !s.preset || !(s.mix || directory) || (argc > 4 && strcmp(argv[4], "joint") != 0))
		return usage();
	if (directory)
		r = synth_safetensors_write(s.preset, argv[2], &err);
	else
		r = write_gguf(&s, argv[2], argc > 4, &err);
	if (r < 0)
		fprintf(stderr, "synth-model: %s\n", err.text);
	return r < 0;
}
