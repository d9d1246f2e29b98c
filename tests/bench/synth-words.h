/* synth-words.h - a vocabulary of any size for a model that nobody trained. */
#pragma once

#include <deepseekd/model.h>

struct synth_words;

/* @n tokens, at least 512; @v borrows from *@out. The same for the same @n. Split patterns are the caller's to name. */
int synth_words_new(struct synth_words **out, struct ds_vocabulary *v, uint32_t n, struct ds_error *err);
struct synth_words *synth_words_free(struct synth_words *words); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(synth_words)
